//! Lines between the supervisor and a child: one JSON object a line, on the child's standard output and input.
//!
//! A child whose standard input closes has lost its supervisor and stops.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What a child says on its standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromChild {
    /// An address that was really bound, as a URL.
    Listening { role: Role, url: String },
    /// All that it needs for its work is there.
    Ready { version: String },
    /// What the collector has waiting and stored; about once a second.
    Collected(Collected),
    /// When HQ last pulled, and how the agent sees the store; when it changes.
    Exported(Exported),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What the child is there for: the agent's session port, the portal's pages.
    Service,
    /// `/healthz`, `/readyz`, `/metrics` on loopback.
    Health,
}

/// What the supervisor says on a child's standard input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToChild {
    Status(Box<PlantStatus>),
}

/// The plant PC at one moment, as `watchdog status --json` prints it and as agent and portal are told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlantStatus {
    pub version: String,
    /// `committed`, `trial`, …: the boot record's phase.
    pub phase: String,
    pub pending_version: Option<String>,
    pub children: Vec<ChildStatus>,
    pub metrics_address: Option<String>,
    /// Readings accepted and not yet in the store.
    pub spool_readings: u64,
    pub collected: Option<Collected>,
    pub exported: Option<Exported>,
    pub licensed: bool,
    /// What is wrong, for people; empty when nothing is.
    pub problems: Vec<String>,
    pub started_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildStatus {
    pub name: String,
    pub pid: Option<u32>,
    pub state: ChildState,
    pub uptime_seconds: u64,
    pub restarts: u64,
    /// `http://127.0.0.1:8000`; null while down.
    pub address: Option<String>,
    pub health_address: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    Starting,
    Running,
    /// Alive, but it says that it cannot do its work; `/readyz` tells why.
    NotReady,
    /// Ended; started again after a pause.
    Waiting,
    /// More than five exits in a minute; tried again every five minutes.
    CrashLoop,
    /// Ended with exit code 78; started again when its configuration changes.
    BadConfiguration,
    /// Not started: no valid licence.
    Unlicensed,
    Stopped,
}

impl ChildState {
    /// The word that `--json` prints, and that tables show.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::NotReady => "not_ready",
            Self::Waiting => "waiting",
            Self::CrashLoop => "crash_loop",
            Self::BadConfiguration => "bad_configuration",
            Self::Unlicensed => "unlicensed",
            Self::Stopped => "stopped",
        }
    }
}

/// The collector's own account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// Accepted since it started.
    pub readings_total: u64,
    pub readings_per_second: f64,
    pub spool_readings: u64,
    /// How long the spool's room lasts at the present rate; `None` while nothing comes in.
    pub spool_seconds_left: Option<f64>,
    /// Time of the newest reading accepted.
    pub last_time: Option<Timestamp>,
    /// Time of the oldest reading accepted and not yet in the store.
    pub oldest_spooled_time: Option<Timestamp>,
    /// Why the store takes nothing at present.
    pub store_error: Option<String>,
    pub sources: BTreeMap<String, SourceStatus>,
    /// Readings dropped for want of room, by reason.
    pub dropped: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    pub up: bool,
    pub tags: u64,
    pub good_total: u64,
    pub bad_total: u64,
    pub error: Option<String>,
}

/// The agent's own account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    pub last_success: Option<Timestamp>,
    pub rows_total: u64,
}
