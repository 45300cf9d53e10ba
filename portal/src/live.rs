//! Live values, fetched from the collector while somebody looks; one fetch feeds all who look.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::Timestamp;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::PlantStatusFeed;

/// Whoever asks within this time after a fetch gets what it brought. A little under the second at which browsers are
/// fed, so that a late tick does not show a value twice.
const FRESH: Duration = Duration::from_millis(900);
const TIME_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
pub struct LiveValue {
    pub tag: String,
    pub value: Option<f64>,
    pub unit: Option<String>,
    pub quality: u8,
    pub text: Option<String>,
    pub time: Timestamp,
}

#[derive(Deserialize)]
struct LiveAnswer {
    tags: Vec<LiveValue>,
}

/// Why there is nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody says where the collector is.
    Unsupervised,
    /// It is down, or does not answer in time, or not as it should.
    Silent,
}

/// The last values there were, sorted by tag, and whether they are of now.
#[derive(Clone)]
pub struct Snapshot {
    pub values: Arc<Vec<LiveValue>>,
    pub trouble: Option<Trouble>,
    fetched: Option<(Instant, Timestamp)>,
}

impl Snapshot {
    /// Grows from the fetch on by the monotonic clock, so that neither a device's clock nor this PC's makes an old
    /// value new.
    pub fn age(&self, value: &LiveValue) -> Duration {
        self.fetched.map_or(Duration::ZERO, |(at, clock)| clock.since(value.time) + at.elapsed())
    }
}

pub struct Live {
    status: PlantStatusFeed,
    latest: Mutex<Latest>,
}

struct Latest {
    snapshot: Snapshot,
    asked: Option<Instant>,
}

impl Live {
    pub fn new(status: PlantStatusFeed) -> Self {
        let snapshot = Snapshot { values: Arc::default(), trouble: None, fetched: None };
        Self { status, latest: Mutex::new(Latest { snapshot, asked: None }) }
    }

    /// Whoever comes while a fetch is under way waits for that one.
    pub async fn current(&self) -> Snapshot {
        let mut latest = self.latest.lock().await;
        if latest.asked.is_none_or(|asked| asked.elapsed() >= FRESH) {
            let before = latest.snapshot.trouble;
            match self.fetch().await {
                Ok(values) => {
                    let fetched = Some((Instant::now(), Timestamp::now()));
                    latest.snapshot = Snapshot { values: Arc::new(values), trouble: None, fetched };
                }
                Err((trouble, why)) => {
                    if before != Some(trouble) {
                        tracing::warn!(%why, "no live values from the collector");
                    }
                    latest.snapshot.trouble = Some(trouble);
                }
            }
            latest.asked = Some(Instant::now());
        }
        latest.snapshot.clone()
    }

    async fn fetch(&self) -> Result<Vec<LiveValue>, (Trouble, Box<dyn Error + Send + Sync>)> {
        let Some(address) = self.collector_address()? else {
            return Err((Trouble::Silent, "it has no address at present".into()));
        };
        get_live(&address).await.map_err(|why| (Trouble::Silent, why))
    }

    fn collector_address(&self) -> Result<Option<String>, (Trouble, Box<dyn Error + Send + Sync>)> {
        let status = self.status.borrow();
        let status = status.as_ref().ok_or_else(|| (Trouble::Unsupervised, "there is no supervisor to ask".into()))?;
        let collector = status.children.iter().find(|child| child.name == "collector");
        Ok(collector.and_then(|collector| collector.health_address.clone()))
    }
}

async fn get_live(address: &str) -> Result<Vec<LiveValue>, Box<dyn Error + Send + Sync>> {
    let (status, body) = daemon::ask(&format!("{address}/live"), TIME_LIMIT).await?;
    if !status.is_success() {
        return Err(format!("it answered {status}").into());
    }
    let mut values = serde_json::from_slice::<LiveAnswer>(&body)?.tags;
    values.sort_by(|one, other| one.tag.cmp(&other.tag));
    Ok(values)
}
