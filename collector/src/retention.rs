//! `RETENTION_DAYS`: which readings may go, and when.
//!
//! A batch goes when it is old enough and every HQ key that has asked for an export within that time has confirmed to
//! have it. Only where a SQLite database lies on a disk that is nearly full the oldest go unconfirmed, down to the last
//! day. Either way a gap is recorded with it, in the same transaction. Without `RETENTION_DAYS` nothing is ever dropped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::Timestamp;
use protocol::control::HqKey;
use readings::{Head, Place, Retirement, Store, StoreError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What even a full disk leaves.
const KEPT_ALWAYS: Duration = DAY;

pub struct Retention {
    keep: Duration,
    disk_reserve_bytes: u64,
    /// Where a SQLite database lies.
    database: Option<PathBuf>,
    look_at: Instant,
    /// What the keys had confirmed at the last look.
    confirmed: Vec<HqKey>,
    giving_back: bool,
}

impl Retention {
    /// # Errors
    /// [`StoreError::Configuration`] for a database URL of no known kind.
    pub fn new(days: u32, disk_reserve_bytes: u64, url: &str, root: &Path) -> Result<Self, StoreError> {
        let database = match readings::place(url, root)? {
            Place::Sqlite(file) => Some(file),
            Place::Postgres => None,
        };
        let (look_at, confirmed) = (Instant::now(), Vec::new());
        Ok(Self { keep: DAY * days, disk_reserve_bytes, database, look_at, confirmed, giving_back: false })
    }

    /// A short piece of work, if one is due. Says whether the next one is due at once.
    ///
    /// # Errors
    /// Those of the store.
    pub fn work(&mut self, store: &mut dyn Store, keys: &[HqKey]) -> Result<bool, StoreError> {
        if self.giving_back {
            self.giving_back = store.give_back()?;
            return Ok(true);
        }
        if Instant::now() < self.look_at && self.confirmed == keys {
            return Ok(false);
        }
        self.confirmed = keys.to_vec();
        let now = Timestamp::now();
        let head = store.head()?;
        let through_seq = confirmed(keys, &head, now.saturating_sub(self.keep));
        let ordinary = Retirement { through_seq, before: now.saturating_sub(self.keep), now, reason: "retention" };
        let mut dropped = store.retire(&ordinary)?;
        if dropped == 0 && self.is_disk_low() {
            let before = now.saturating_sub(KEPT_ALWAYS);
            dropped = store.retire(&Retirement { through_seq: u64::MAX, before, now, reason: "disk_low" })?;
            if dropped > 0 {
                tracing::warn!(dropped, "the disk is nearly full: the oldest readings are dropped unconfirmed");
            }
        } else if dropped > 0 {
            tracing::info!(
                dropped,
                "readings that HQ has confirmed and that are older than RETENTION_DAYS are dropped"
            );
        }
        self.giving_back = dropped > 0;
        if dropped == 0 {
            self.look_at = Instant::now() + LOOK_EVERY;
        }
        Ok(dropped > 0)
    }

    fn is_disk_low(&self) -> bool {
        let folder = self.database.as_deref().and_then(Path::parent);
        let free = folder.and_then(|folder| durable::free_bytes(folder).ok());
        free.is_some_and(|free| free < self.disk_reserve_bytes)
    }
}

/// Up to where every key has everything that has asked since `asked_since`. Where nobody has, nothing is confirmed.
fn confirmed(keys: &[HqKey], head: &Head, asked_since: Timestamp) -> u64 {
    let active = keys.iter().filter(|key| key.asked_at >= asked_since);
    let places = active.map(|key| {
        let place = key.acknowledged.as_ref();
        place.and_then(|place| head.locate(&place.epoch, place.seq)).unwrap_or(0)
    });
    places.min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use protocol::control::Acknowledged;
    use readings::EpochStart;

    use super::*;

    #[test]
    fn the_slowest_key_that_still_asks_holds_the_others_back() {
        let head =
            Head { epochs: vec![EpochStart { epoch: "a".to_owned(), first_seq: 1 }], first_seq: 1, last_seq: 1000 };
        let day = |day: i64| Timestamp::from_micros(day * 86_400_000_000).unwrap();
        let key = |asked: i64, place: Option<(&str, u64)>| HqKey {
            key: asked.to_string(),
            asked_at: day(asked),
            acknowledged: place.map(|(epoch, seq)| Acknowledged { epoch: epoch.to_owned(), seq }),
        };
        let confirmed = |keys: &[HqKey]| confirmed(keys, &head, day(30));
        assert_eq!(confirmed(&[]), 0, "nobody has it");
        assert_eq!(confirmed(&[key(40, Some(("a", 900))), key(35, Some(("a", 700)))]), 700);
        assert_eq!(confirmed(&[key(40, Some(("a", 900))), key(29, Some(("a", 7)))]), 900, "one that asks no more");
        assert_eq!(confirmed(&[key(29, Some(("a", 900)))]), 0, "and nobody else");
        assert_eq!(confirmed(&[key(40, Some(("a", 900))), key(40, None)]), 0, "a new one has nothing yet");
        assert_eq!(confirmed(&[key(40, Some(("b", 900)))]), 0, "a place in another history");
    }
}
