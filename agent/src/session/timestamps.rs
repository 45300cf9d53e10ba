use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use durable::Access;
use protocol::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Which signed timestamps still count, and the floor under the clock.
pub struct Timestamps {
    file: PathBuf,
    started: Timestamp,
    state: Mutex<State>,
}

struct State {
    saved: Saved,
    /// What earlier processes accepted in the plain form, at the highest.
    highest_before: Option<Timestamp>,
    /// Accepted signatures and their timestamps, for as long as such a timestamp could be accepted again.
    used: HashMap<[u8; 32], Timestamp>,
}

/// `state/agent/time.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Saved {
    /// The highest timestamp accepted in the plain form.
    highest_plain: Option<Timestamp>,
    /// Trusted time is never below this.
    floor: Option<Timestamp>,
    /// The newest signed `created` seen in a package.
    newest_created: Option<Timestamp>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Untimely {
    Stale,
    Used,
}

/// How far a plain timestamp may be from this clock, either way.
const FRESH: Duration = Duration::from_secs(60);
/// How far below the highest accepted one.
const BELOW_HIGHEST: Duration = Duration::from_secs(120);
/// How far one signature can raise the floor past what else is known: a timestamp of 2099 must not expire everything.
const FLOOR_LEAP: Duration = Duration::from_secs(90 * 24 * 3600);

impl Timestamps {
    pub fn read(file: &Path, started: Timestamp) -> Self {
        let saved: Saved = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), %error, "the remembered times are unreadable and begin anew");
                Saved::default()
            }),
            Err(_) => Saved::default(),
        };
        let highest_before = saved.highest_plain;
        let state = State { saved, highest_before, used: HashMap::new() };
        Self { file: file.to_owned(), started, state: Mutex::new(state) }
    }

    /// The plain form, its signature being right: fresh, from this process's lifetime, never used.
    pub fn accept_plain(&self, timestamp: Timestamp, signature: &[u8]) -> Result<(), Untimely> {
        let now = Timestamp::now();
        let mut state = self.lock();
        let fresh = timestamp <= now.saturating_add(FRESH) && timestamp >= now.saturating_sub(FRESH);
        let high = state.saved.highest_plain.is_none_or(|highest| timestamp >= highest.saturating_sub(BELOW_HIGHEST));
        if !fresh || !high || !self.is_of_this_process(timestamp, state.highest_before) {
            return Err(Untimely::Stale);
        }
        if state.used.insert(Sha256::digest(signature).into(), timestamp).is_some() {
            return Err(Untimely::Used);
        }
        let highest = state.saved.highest_plain.map_or(timestamp, |highest| highest.max(timestamp));
        state.saved.highest_plain = Some(highest);
        // Not by the clock, which may be set back: what lies farther below is refused as stale whatever the clock says.
        state.used.retain(|_, used| *used >= highest.saturating_sub(BELOW_HIGHEST));
        self.raise_floor(&mut state, timestamp, now);
        Ok(())
    }

    /// The challenge form, its nonce being good: any time will do.
    pub fn accept_challenged(&self, timestamp: Timestamp) {
        self.raise_floor(&mut self.lock(), timestamp, Timestamp::now());
    }

    /// Something signed by a publishing key was made at this time, so it is later than that.
    pub fn saw_signed(&self, created: Timestamp) {
        let mut state = self.lock();
        state.saved.newest_created = state.saved.newest_created.max(Some(created));
        self.raise_floor(&mut state, Timestamp::EPOCH, Timestamp::now());
    }

    /// Used signatures are forgotten with the process, so nothing counts that was signed before it started, or is not
    /// above all that earlier processes accepted (HQ's clock may be ahead). HQ may write whole seconds: the second in
    /// which the process started counts.
    fn is_of_this_process(&self, timestamp: Timestamp, highest_before: Option<Timestamp>) -> bool {
        let second = Timestamp::from_micros(self.started.as_micros().div_euclid(1_000_000) * 1_000_000);
        Some(timestamp) >= second && Some(timestamp) > highest_before
    }

    fn raise_floor(&self, state: &mut State, timestamp: Timestamp, now: Timestamp) {
        let known = state.saved.newest_created.map_or(now, |created| created.max(now));
        let floor = timestamp.min(known.saturating_add(FLOOR_LEAP));
        state.saved.floor = state.saved.floor.max(Some(floor));
        let bytes = serde_json::to_vec_pretty(&state.saved).expect("times serialise");
        // Before the answer, so that a restart cannot open a replay. Without a disk the process's start still bars it.
        if let Err(error) = durable::replace(&self.file, &bytes, Access::Shared) {
            tracing::error!(%error, "the accepted time could not be remembered");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_timestamp_counts_fresh_once_and_in_this_life() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("time.json");
        let now = Timestamp::now();
        let times = Timestamps::read(&file, now.saturating_sub(seconds(300)));
        assert_eq!(times.accept_plain(now, b"one"), Ok(()));
        assert_eq!(times.accept_plain(now, b"one"), Err(Untimely::Used));
        assert_eq!(times.accept_plain(now.saturating_sub(seconds(61)), b"two"), Err(Untimely::Stale));
        assert_eq!(times.accept_plain(now.saturating_add(seconds(62)), b"three"), Err(Untimely::Stale));
        assert_eq!(times.accept_plain(now.saturating_sub(seconds(50)), b"four"), Ok(()));

        // After a restart nothing that could have been used before counts again.
        let again = Timestamps::read(&file, now.saturating_add(seconds(1)));
        assert_eq!(again.accept_plain(now, b"one"), Err(Untimely::Stale));
        assert_eq!(again.accept_plain(now.saturating_add(seconds(2)), b"five"), Ok(()));
    }

    #[test]
    fn a_timestamp_signed_ahead_of_the_clock_does_not_count_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("time.json");
        let ahead = Timestamp::now().saturating_add(seconds(50));
        assert_eq!(Timestamps::read(&file, Timestamp::EPOCH).accept_plain(ahead, b"one"), Ok(()));
        assert_eq!(Timestamps::read(&file, Timestamp::now()).accept_plain(ahead, b"one"), Err(Untimely::Stale));
    }

    #[test]
    fn a_used_signature_is_remembered_for_as_long_as_its_time_could_count() {
        let folder = tempfile::tempdir().unwrap();
        let times = Timestamps::read(&folder.path().join("time.json"), Timestamp::EPOCH);
        let now = Timestamp::now();
        assert_eq!(times.accept_plain(now, b"one"), Ok(()));
        // However long the clock was away in between.
        assert_eq!(times.accept_plain(now.saturating_add(seconds(59)), b"two"), Ok(()));
        assert_eq!(times.accept_plain(now, b"one"), Err(Untimely::Used));
        assert_eq!(times.lock().used.len(), 2);
    }

    #[test]
    fn whole_seconds_count_from_the_first_second_on_but_never_twice() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("time.json");
        let whole = Timestamp::from_micros(Timestamp::now().as_micros() / 1_000_000 * 1_000_000).unwrap();
        let started = whole.saturating_add(Duration::from_micros(1));
        assert_eq!(Timestamps::read(&file, started).accept_plain(whole, b"one"), Ok(()));
        assert_eq!(Timestamps::read(&file, started).accept_plain(whole, b"one"), Err(Untimely::Stale));
    }

    #[test]
    fn a_clock_set_back_opens_no_replay_and_2099_raises_the_floor_by_ninety_days() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("time.json");
        let now = Timestamp::now();
        let times = Timestamps::read(&file, Timestamp::EPOCH);
        // As if the clock had been ten minutes ahead when this was accepted.
        times.lock().saved.highest_plain = Some(now.saturating_add(seconds(600)));
        assert_eq!(times.accept_plain(now, b"one"), Err(Untimely::Stale));
        times.accept_challenged(Timestamp::parse("2099-01-01T00:00:00Z").unwrap());
        let floor = times.lock().saved.floor.unwrap();
        assert!(floor <= Timestamp::now().saturating_add(FLOOR_LEAP) && floor > now.saturating_add(FLOOR_LEAP / 2));
        times.accept_challenged(Timestamp::EPOCH);
        assert_eq!(Timestamps::read(&file, now).lock().saved.floor, Some(floor));
    }
}
