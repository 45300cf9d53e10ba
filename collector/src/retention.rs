//! `RETENTION_DAYS`: which readings may go, and when.
//!
//! A batch goes when it is old enough and every HQ key that has asked for an export within that time has confirmed to
//! have it. Only where a SQLite database lies on a disk that is nearly full the oldest go unconfirmed, down to the last
//! day. Either way a gap is recorded with it, in the same transaction. Without `RETENTION_DAYS` nothing is ever dropped.
//!
//! What time it is: the plant's clock may jump, so it is never taken to be later than what HQ has last signed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::Timestamp;
use protocol::control::{Exported, HqKey};
use readings::{Head, Place, Retirement, Store, StoreError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What even a full disk leaves.
const KEPT_ALWAYS: Duration = DAY;
/// Of the disk's reserve, in quarters: where dropping begins, and where it ends. Above the reserve itself, at which the spool
/// takes nothing more.
const LOW_QUARTERS: u64 = 5;
const ENOUGH_QUARTERS: u64 = 6;

pub struct Retention {
    keep: Duration,
    disk_reserve_bytes: u64,
    /// Where a SQLite database lies.
    database: Option<PathBuf>,
    look_at: Instant,
    /// What was known of HQ's keys at the last look.
    keys_seen: Vec<HqKey>,
    giving_back: bool,
    making_room: bool,
}

impl Retention {
    /// # Errors
    /// [`StoreError::Configuration`] for a database URL of no known kind.
    pub fn new(days: u32, disk_reserve_bytes: u64, url: &str, root: &Path) -> Result<Self, StoreError> {
        let database = match readings::place(url, root)? {
            Place::Sqlite(file) => Some(file),
            Place::Postgres => None,
        };
        Ok(Self {
            keep: DAY * days,
            disk_reserve_bytes,
            database,
            look_at: Instant::now(),
            keys_seen: Vec::new(),
            giving_back: false,
            making_room: false,
        })
    }

    /// A short piece of work, if one is due. Says whether the next one is due at once.
    ///
    /// # Errors
    /// Those of the store.
    pub fn work(&mut self, store: &mut dyn Store, exported: &Exported) -> Result<bool, StoreError> {
        if self.giving_back {
            self.giving_back = store.give_back()?;
            return Ok(true);
        }
        self.look_at_disk();
        if Instant::now() < self.look_at && self.keys_seen == exported.keys && !self.making_room {
            return Ok(false);
        }
        self.keys_seen.clone_from(&exported.keys);
        let now = time(exported);
        let before = now.saturating_sub(self.keep);
        let through_seq = confirmed(exported, &store.head()?, before);
        let mut dropped = store.retire(&Retirement { through_seq, before, now, reason: "retention" })?;
        if dropped > 0 {
            tracing::info!(
                dropped,
                "readings that HQ has confirmed and that are older than RETENTION_DAYS are dropped"
            );
        } else if self.making_room {
            let before = now.saturating_sub(KEPT_ALWAYS);
            let reason = "dropped_disk_low";
            dropped = store.retire(&Retirement { through_seq: u64::MAX, before, now, reason })?;
            if dropped > 0 {
                tracing::warn!(dropped, "the disk is nearly full: the oldest readings are dropped unconfirmed");
            }
        }
        self.giving_back = dropped > 0;
        self.look_at = Instant::now();
        if dropped == 0 {
            self.making_room = false;
            self.look_at += LOOK_EVERY;
        }
        Ok(dropped > 0)
    }

    /// After a failure, that it is not tried again at once.
    pub fn rest(&mut self) {
        (self.giving_back, self.making_room) = (false, false);
        self.look_at = Instant::now() + LOOK_EVERY;
    }

    fn look_at_disk(&mut self) {
        let folder = self.database.as_deref().and_then(Path::parent);
        let Some(free) = folder.and_then(|folder| durable::free_bytes(folder).ok()) else { return };
        let quarter = self.disk_reserve_bytes / 4;
        self.making_room = free < quarter.saturating_mul(if self.making_room { ENOUGH_QUARTERS } else { LOW_QUARTERS });
    }
}

/// The plant's, or what HQ has signed, if that is earlier.
fn time(exported: &Exported) -> Timestamp {
    let signed = exported.keys.iter().map(|key| key.signed_at).max();
    signed.map_or_else(Timestamp::now, |signed| signed.min(Timestamp::now()))
}

/// Up to where every key has everything that has asked since `asked_since`, by either clock. Where nobody has, or it was
/// forgotten who has, nothing is confirmed.
fn confirmed(exported: &Exported, head: &Head, asked_since: Timestamp) -> u64 {
    // A clock that was far ahead when it asked says nothing.
    let latest = time(exported).saturating_add(DAY);
    if exported.forgot_at.is_some_and(|forgot_at| forgot_at >= asked_since) {
        return 0;
    }
    let active = exported
        .keys
        .iter()
        .filter(|key| key.signed_at >= asked_since || (asked_since..=latest).contains(&key.asked_at));
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
            signed_at: day(asked),
            acknowledged: place.map(|(epoch, seq)| Acknowledged { epoch: epoch.to_owned(), seq }),
        };
        let told = |keys: &[HqKey], forgot_at| Exported { keys: keys.to_vec(), forgot_at, ..Exported::default() };
        let confirmed = |keys: &[HqKey]| confirmed(&told(keys, None), &head, day(30));
        assert_eq!(confirmed(&[]), 0, "nobody has it");
        assert_eq!(confirmed(&[key(40, Some(("a", 900))), key(35, Some(("a", 700)))]), 700);
        assert_eq!(confirmed(&[key(40, Some(("a", 900))), key(29, Some(("a", 7)))]), 900, "one that asks no more");
        assert_eq!(confirmed(&[key(29, Some(("a", 900)))]), 0, "and nobody else");
        assert_eq!(confirmed(&[key(40, Some(("a", 900))), key(40, None)]), 0, "a new one has nothing yet");
        assert_eq!(confirmed(&[key(40, Some(("b", 900)))]), 0, "a place in another history");
        let forgot =
            |day_of: i64| super::confirmed(&told(&[key(40, Some(("a", 900)))], Some(day(day_of))), &head, day(30));
        assert_eq!((forgot(35), forgot(29)), (0, 900), "others may have asked before");
    }

    #[test]
    fn a_clock_that_is_ahead_makes_nothing_old() {
        let hq = Timestamp::parse("2026-02-22T00:00:00Z").unwrap();
        let key = HqKey { key: "hq".to_owned(), asked_at: Timestamp::now(), signed_at: hq, acknowledged: None };
        assert_eq!(time(&Exported { keys: vec![key], ..Exported::default() }), hq);
        assert!(time(&Exported::default()) > hq);
    }
}
