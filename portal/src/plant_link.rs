//! What the portal asks the other programs of this plant PC for, at the addresses that the supervisor names.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Response, StatusCode};
use form_urlencoded::Serializer;
use protocol::Timestamp;
use protocol::control::{Event, PastSession};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::PlantStatusFeed;

const LISTS_WITHIN: Duration = Duration::from_secs(3);
/// A database that is being read cold takes its time.
const TREND_WITHIN: Duration = Duration::from_secs(20);
/// Lists change seldom; one fetch feeds all who look.
const FRESH: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The program is down, or nobody says where it is.
    Away,
    NoSuchTag,
    /// In its own words.
    Refused(String),
}

/// A tag, and a while.
#[derive(Clone, Debug)]
pub struct Stretch {
    pub tag: String,
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Stretch {
    /// As a query.
    pub fn query(&self) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("tag", &self.tag);
        query.append_pair("from", &self.from.to_string()).append_pair("to", &self.to.to_string());
        query.finish()
    }
}

/// A tag's trend, a column each, as the collector tells it; times in milliseconds since 1970.
#[derive(Debug, Default, Deserialize)]
pub struct Columns {
    pub length_seconds: f64,
    pub start: Vec<f64>,
    pub minimum: Vec<Option<f64>>,
    pub maximum: Vec<Option<f64>>,
    pub last: Vec<Option<f64>>,
}

pub struct PlantLink {
    status: PlantStatusFeed,
    sessions: Mutex<Option<Kept<PastSession>>>,
    events: Mutex<Option<Kept<Event>>>,
}

struct Kept<T> {
    at: Instant,
    list: Result<Arc<Vec<T>>, NoAnswer>,
}

impl PlantLink {
    pub fn new(status: PlantStatusFeed) -> Self {
        Self { status, sessions: Mutex::default(), events: Mutex::default() }
    }

    /// The newest first.
    pub async fn sessions(&self) -> Result<Arc<Vec<PastSession>>, NoAnswer> {
        kept(&self.sessions, self.health_of("agent"), "/sessions").await
    }

    /// The newest first.
    pub async fn events(&self) -> Result<Arc<Vec<Event>>, NoAnswer> {
        let address = self.status.borrow().as_ref().and_then(|status| status.metrics_address.clone());
        kept(&self.events, address, "/events").await
    }

    /// The collector's answer as it is.
    pub async fn trend(&self, stretch: &Stretch, pieces: u32) -> Result<bytes::Bytes, NoAnswer> {
        let address = self.health_of("collector").ok_or(NoAnswer::Away)?;
        let mut url = format!("{address}/trend?{}", stretch.query());
        let _ = write!(url, "&pieces={pieces}");
        let (status, body) = daemon::ask(&url, TREND_WITHIN).await.map_err(|_| NoAnswer::Away)?;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::NOT_FOUND => Err(NoAnswer::NoSuchTag),
            _ => Err(NoAnswer::Refused(String::from_utf8_lossy(&body).trim().to_owned())),
        }
    }

    /// Handed on as it comes, however long it is.
    pub async fn history(&self, stretch: &Stretch) -> Result<Response<Body>, NoAnswer> {
        let address = self.health_of("collector").ok_or(NoAnswer::Away)?;
        let url = format!("{address}/history.csv?{}", stretch.query());
        let answer = daemon::ask_for_stream(&url, TREND_WITHIN).await.map_err(|_| NoAnswer::Away)?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::NOT_FOUND => Err(NoAnswer::NoSuchTag),
            status => Err(NoAnswer::Refused(status.to_string())),
        }
    }

    fn health_of(&self, child: &str) -> Option<String> {
        let status = self.status.borrow();
        status.as_ref()?.children.iter().find(|other| other.name == child)?.health_address.clone()
    }
}

async fn kept<T: DeserializeOwned>(
    kept: &Mutex<Option<Kept<T>>>,
    address: Option<String>,
    path: &str,
) -> Result<Arc<Vec<T>>, NoAnswer> {
    let mut kept = kept.lock().await;
    if let Some(kept) = kept.as_ref().filter(|kept| kept.at.elapsed() < FRESH) {
        return kept.list.clone();
    }
    let list = fetch(address, path).await.map(Arc::new);
    *kept = Some(Kept { at: Instant::now(), list: list.clone() });
    list
}

async fn fetch<T: DeserializeOwned>(address: Option<String>, path: &str) -> Result<Vec<T>, NoAnswer> {
    let address = address.ok_or(NoAnswer::Away)?;
    let (_, body) = daemon::ask(&format!("{address}{path}"), LISTS_WITHIN).await.map_err(|_| NoAnswer::Away)?;
    serde_json::from_slice(&body).map_err(|error| NoAnswer::Refused(error.to_string()))
}
