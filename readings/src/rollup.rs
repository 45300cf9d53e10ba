//! Rollups: what all readings of a tag within a minute, and within an hour, come to. Trends are drawn from them.
//!
//! `head.rolled_seq` says how far they go: they hold every reading up to there, once, and none behind it. It moves in the
//! transaction that changes them, with a batch. Readings behind it are few, and whoever draws a trend adds them. What a
//! connection remembers of those ([`Rolling`]) only spares reading them again: it is thrown away whenever the database
//! turns out to have moved without it.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use protocol::Timestamp;

use crate::reading::Quality;
use crate::tags::IdHasher;

/// How long readings may stay behind.
const ROLLED_EVERY: Duration = Duration::from_secs(10);
/// How many: so many are read again after a restart.
const MOST_BEHIND: u64 = 250_000;
/// And of how many minutes of tags, each of which takes memory.
const MOST_KEPT: usize = 50_000;

pub(crate) const MINUTE: i64 = 60 * 1_000_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;

/// Some readings of one tag, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rollup {
    pub readings: u64,
    /// How many of them are of bad quality; their values do not count.
    pub bad: u64,
    /// `None` if no reading had a value that counts.
    pub values: Option<Values>,
}

/// Of the values that count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    pub minimum: f64,
    pub maximum: f64,
    pub first_time: Timestamp,
    pub first: f64,
    pub last_time: Timestamp,
    pub last: f64,
}

impl Rollup {
    pub fn of(time: Timestamp, value: Option<f64>, quality: Quality) -> Self {
        let counted = value.filter(|_| !quality.is_bad());
        let values = counted.map(|value| Values {
            minimum: value,
            maximum: value,
            first_time: time,
            first: value,
            last_time: time,
            last: value,
        });
        Self { readings: 1, bad: u64::from(quality.is_bad()), values }
    }

    /// Adds what was stored later, of whatever time it is.
    pub fn add(&mut self, later: &Self) {
        self.readings += later.readings;
        self.bad += later.bad;
        self.values = match (self.values, later.values) {
            (Some(values), Some(later)) => Some(values.with(&later)),
            (values, later) => values.or(later),
        };
    }
}

impl Values {
    fn with(self, later: &Self) -> Self {
        let (first_time, first) = match later.first_time < self.first_time {
            true => (later.first_time, later.first),
            false => (self.first_time, self.first),
        };
        let (last_time, last) = match later.last_time >= self.last_time {
            true => (later.last_time, later.last),
            false => (self.last_time, self.last),
        };
        let (minimum, maximum) = (self.minimum.min(later.minimum), self.maximum.max(later.maximum));
        Self { minimum, maximum, first_time, first, last_time, last }
    }
}

/// Both tables, and what is in them.
pub(crate) const TABLES: [&str; 2] = ["rollups_minute", "rollups_hour"];
pub(crate) const COLUMNS: &str = "start, tag, readings, bad, minimum, maximum, first_time, first, last_time, last";

pub(crate) fn table(length: i64) -> &'static str {
    TABLES[usize::from(length != MINUTE)]
}

/// Where the span of this length begins in which `time` lies, in microseconds since 1970.
pub(crate) fn start_of(time: Timestamp, length: i64) -> i64 {
    time.as_micros().div_euclid(length) * length
}

/// By the minute's start and the tag's id.
pub(crate) type Buckets = Vec<((i64, i64), Rollup)>;

/// Readings behind `head.rolled_seq`, as far as this connection knows them.
#[derive(Debug, Default)]
pub(crate) struct Rolling {
    /// Those from behind the first of these up to the second are in `minutes` and `current`.
    base: u64,
    through: u64,
    since: Option<Instant>,
    /// In the order of storing; one may be there more than once.
    minutes: Buckets,
    /// By tag, the minute that its last reading was of.
    current: HashMap<i64, (i64, Rollup), BuildHasherDefault<IdHasher>>,
}

impl Rolling {
    /// Before a batch is added that begins at `first_seq`: which readings are to be read and added first. `None` if they
    /// are too many for one transaction; they are left to [`Store::roll_up`], and the batch with them.
    ///
    /// [`Store::roll_up`]: crate::Store::roll_up
    pub fn missing(&mut self, rolled_seq: u64, first_seq: u64) -> Option<std::ops::RangeInclusive<u64>> {
        if self.base != rolled_seq || self.through < rolled_seq || self.through >= first_seq {
            *self = Self { base: rolled_seq, through: rolled_seq, ..Self::default() };
        }
        let missing = self.through + 1..=first_seq - 1;
        (first_seq - 1 - self.base <= MOST_BEHIND).then_some(missing)
    }

    pub fn add(&mut self, tag: i64, time: Timestamp, value: Option<f64>, quality: Quality) {
        let (start, rollup) = (start_of(time, MINUTE), Rollup::of(time, value, quality));
        let (current, minute) = self.current.entry(tag).or_insert((start, Rollup::default()));
        if *current == start {
            minute.add(&rollup);
        } else {
            self.minutes.push(((*current, tag), *minute));
            (*current, *minute) = (start, rollup);
        }
    }

    /// All up to here has been added. Whether the rollups are due now.
    pub fn reaches(&mut self, seq: u64) -> bool {
        self.through = seq;
        let since = *self.since.get_or_insert_with(Instant::now);
        since.elapsed() >= ROLLED_EVERY
            || seq - self.base >= MOST_BEHIND
            || self.minutes.len() + self.current.len() >= MOST_KEPT
    }

    /// What goes into the rollups, minutes and hours, in the order of their keys; from here on they hold it.
    pub fn take(&mut self) -> (Buckets, Buckets) {
        let taken = std::mem::take(self);
        *self = Self { base: taken.through, through: taken.through, ..Self::default() };
        let mut minutes = taken.minutes;
        minutes.extend(taken.current.into_iter().map(|(tag, (start, rollup))| ((start, tag), rollup)));
        let hours = minutes.iter().map(|((start, tag), rollup)| ((start.div_euclid(HOUR) * HOUR, *tag), *rollup));
        let hours = summed_up(hours.collect());
        (summed_up(minutes), hours)
    }
}

/// By their keys, each once. What was stored later is added later.
fn summed_up(mut buckets: Buckets) -> Buckets {
    buckets.sort_by_key(|(key, _)| *key);
    buckets.dedup_by(|(key, later), (same, rollup)| {
        let is_same = key == same;
        if is_same {
            rollup.add(later);
        }
        is_same
    });
    buckets
}

/// How far one step of [`Store::roll_up`] goes.
///
/// [`Store::roll_up`]: crate::Store::roll_up
pub(crate) fn step(rolled_seq: u64, last_seq: u64) -> Option<std::ops::RangeInclusive<u64>> {
    (rolled_seq < last_seq).then(|| rolled_seq + 1..=last_seq.min(rolled_seq + MOST_BEHIND))
}
