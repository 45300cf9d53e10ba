//! How a plant is: `GET /status`.

use std::collections::BTreeMap;

use hyper::StatusCode;
use protocol::{Failure, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::connection::{Connection, json, refused};

/// What tables show of it; all of it is in `raw`.
#[derive(Clone, Debug)]
pub struct Status {
    pub raw: Value,
    known: Known,
}

#[derive(Clone, Debug, Deserialize)]
struct Known {
    version: String,
    phase: String,
    pending_version: Option<String>,
    last_update: Option<LastUpdate>,
    #[serde(default = "yes")]
    licensed: bool,
    readings: Readings,
    #[serde(default)]
    services: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Readings {
    last_time: Option<Timestamp>,
    #[serde(default)]
    spool_readings: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct LastUpdate {
    to_version: String,
    status: String,
    error: Option<String>,
}

fn yes() -> bool {
    true
}

/// Asks in an open session.
pub async fn ask(connection: &mut Connection, token: &str) -> Result<Status, Failure> {
    let answer = connection.get("/status", Some(token)).await?;
    if answer.status() != StatusCode::OK {
        return Err(refused(answer).await);
    }
    let raw: Value = json(answer).await?;
    let known: Known = serde_json::from_value(raw.clone())
        .map_err(|error| Failure::failed(format!("the agent's status is not understood: {error}")))?;
    Ok(Status { raw, known })
}

impl Status {
    pub fn version(&self) -> &str {
        &self.known.version
    }

    /// Accepted and not yet stored.
    pub fn spool_readings(&self) -> u64 {
        self.known.readings.spool_readings
    }

    /// What waits or is under way.
    pub fn update(&self) -> String {
        match (self.known.phase.as_str(), &self.known.pending_version) {
            ("committed", Some(version)) => format!("{version} waits for approval"),
            ("committed", None) => "-".to_owned(),
            (phase, Some(version)) => format!("{version}: {phase}"),
            (phase, None) => phase.to_owned(),
        }
    }

    pub fn last_update(&self) -> String {
        match &self.known.last_update {
            None => "-".to_owned(),
            Some(LastUpdate { to_version, status, error: None }) => format!("{to_version}: {status}"),
            Some(LastUpdate { to_version, status, error: Some(error) }) => format!("{to_version}: {status}: {error}"),
        }
    }

    pub fn newest_reading(&self) -> String {
        self.known.readings.last_time.map_or_else(|| "-".to_owned(), Timestamp::with_millis)
    }

    /// Those that do not run.
    pub fn programs(&self) -> String {
        let mut wrong: Vec<String> = self
            .known
            .services
            .iter()
            .filter(|(_, state)| *state != "running")
            .map(|(name, state)| format!("{name}: {state}"))
            .collect();
        if !self.known.licensed {
            wrong.push("no valid licence".to_owned());
        }
        match (wrong.is_empty(), self.known.services.is_empty()) {
            (false, _) => wrong.join(", "),
            // An agent that was started by hand knows of none.
            (true, true) => "-".to_owned(),
            (true, false) => "all run".to_owned(),
        }
    }
}
