use protocol::Timestamp;
use protocol::export::{EpochRange, Gap};

use crate::error::StoreError;
use crate::reading::{Quality, Reading};
use crate::retention::Retirement;
use crate::trend::{Trend, TrendQuery};

/// One connection to a readings database.
///
/// Calls block; each runs in its own short transaction. An implementation is used by one thread at a time, and several
/// of them, in several processes, may work on one database.
pub trait Store: Send {
    /// What the database holds at this moment.
    fn head(&mut self) -> Result<Head, StoreError>;

    /// How far `writer` has come; 0 if it never wrote.
    fn position(&mut self, writer: &str) -> Result<u64, StoreError>;

    /// Stores a batch, all of it or nothing, and only if it is not stored yet.
    fn append(&mut self, batch: &Batch<'_>) -> Result<Appended, StoreError>;

    /// Does all of [`Store::append`] and takes it back: whether the database would take these readings.
    fn rehearse(&mut self, batch: &Batch<'_>) -> Result<(), StoreError>;

    /// Begins a new epoch from `first_seq` on (at most behind the newest reading), and sets `writer`'s position, in one
    /// transaction. Nothing happens if the current epoch is no longer `current`.
    fn begin_epoch(&mut self, current: &str, first_seq: u64, writer: &str, position: u64) -> Result<(), StoreError>;

    /// Reads the readings of `span` in the order of `seq`.
    fn read(&mut self, span: Span, each: &mut dyn FnMut(&Row<'_>)) -> Result<(), StoreError>;

    /// How many readings [`Store::read`] would give.
    fn count(&mut self, span: Span) -> Result<u64, StoreError>;

    /// Writes into a table of its own, reads it back and removes it; then stores readings, reads them back, and takes that
    /// back with its transaction. So whether this program can work with this database is known before a reading is
    /// entrusted to it.
    fn probe(&mut self) -> Result<(), StoreError>;

    /// The parts of the order up to `through_seq` in which readings of `time` or later lie.
    fn spans_since(&mut self, time: Timestamp, through_seq: u64) -> Result<Vec<Span>, StoreError>;

    /// Drops some of the oldest batches, whole ones, and records the gap, in one transaction; returns how many readings went.
    /// With 0 there is nothing more to drop.
    fn retire(&mut self, retirement: &Retirement) -> Result<u64, StoreError>;

    /// Gives room that dropped readings took back to the disk, as far as this kind of database does; returns whether there
    /// is more.
    fn give_back(&mut self) -> Result<bool, StoreError>;

    /// A step of bringing the rollups up to the newest reading; whether there is more to do. [`Store::append`] does it as
    /// well, but not for the last readings before a rest, nor for many that were brought in at once.
    fn roll_up(&mut self) -> Result<bool, StoreError>;

    /// What a tag did over a while; `None` if there is no such tag.
    fn trend(&mut self, query: TrendQuery<'_>) -> Result<Option<Trend>, StoreError>;

    /// The parts of the order in which readings from `from` up to before `to` may lie.
    fn spans_between(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<Span>, StoreError>;

    /// Readings of one tag within a span; what is read of a tag by others is read by [`Store::read`].
    fn read_tag(&mut self, tag: &str, span: Span, each: &mut dyn FnMut(&Row<'_>)) -> Result<(), StoreError>;

    /// The gaps that somebody has not heard of who has everything up to `behind_seq`, up to `through_seq`.
    fn gaps(&mut self, behind_seq: u64, through_seq: u64) -> Result<Vec<Gap>, StoreError>;
}

/// Readings that are stored in one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Who writes; each writer has a position of its own.
    pub writer: &'a str,
    /// The writer's position before and behind this batch: the batch is stored if the database is at `from`.
    pub from: u64,
    pub to: u64,
    pub readings: &'a [Reading],
    /// Readings that could not be accepted before these.
    pub gaps: &'a [Gap],
}

impl Batch<'_> {
    /// First and last time of its readings; `None` if it has none.
    pub(crate) fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let times = || self.readings.iter().map(|reading| reading.time);
        times().min().zip(times().max())
    }

    /// Where in the order its gaps lie: with its readings, or else with the next that come. Whoever has everything up to
    /// `last_seq` has not heard of them yet.
    pub(crate) fn place_of_gaps(&self, last_seq: i64) -> i64 {
        if self.readings.is_empty() { last_seq + 1 } else { last_seq }
    }

    /// What it means that the writer's position is not `from`.
    pub(crate) fn not_moved(&self, found: u64) -> Result<Appended, StoreError> {
        match found == self.to {
            true => Ok(Appended::AlreadyStored),
            false => Err(StoreError::Position { writer: self.writer.to_owned(), expected: self.from, found }),
        }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is stored, now.
    Stored { last_seq: u64 },
    /// It had been stored before.
    AlreadyStored,
}

/// One history of the database begins at `first_seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// 32 hexadecimal digits.
    pub epoch: String,
    pub first_seq: u64,
}

/// What a database holds: the readings from `first_seq` to `last_seq`, without holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// In the order of their beginning; never empty, the last is the current one.
    pub epochs: Vec<EpochStart>,
    /// The oldest reading kept; one above `last_seq` if none is.
    pub first_seq: u64,
    pub last_seq: u64,
}

impl Head {
    pub fn epoch(&self) -> &str {
        &self.epochs.last().expect("laying the schema begins an epoch").epoch
    }

    /// In which epochs the readings of a range were born.
    pub fn epoch_ranges(&self, first_seq: u64, last_seq: u64) -> Vec<EpochRange> {
        let ends = self.epochs.iter().skip(1).map(|next| next.first_seq.saturating_sub(1)).chain([u64::MAX]);
        let clipped = self.epochs.iter().zip(ends).map(|(start, end)| EpochRange {
            epoch: start.epoch.clone(),
            first_seq: start.first_seq.max(first_seq),
            last_seq: end.min(last_seq),
        });
        clipped.filter(|range| range.first_seq <= range.last_seq).collect()
    }

    /// Where in this database the place behind (`epoch`, `seq`) is, if the epoch is part of its history: everything up
    /// to the returned `seq` was there when the place was named.
    pub fn locate(&self, epoch: &str, seq: u64) -> Option<u64> {
        let at = self.epochs.iter().position(|start| start.epoch == epoch)?;
        let end = self.epochs.get(at + 1).map_or(self.last_seq, |next| next.first_seq.saturating_sub(1));
        Some(seq.min(end))
    }
}

/// A range of the order, both ends inclusive, of which only readings of `not_before` or later are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first_seq: u64,
    pub last_seq: u64,
    pub not_before: Option<Timestamp>,
}

impl Span {
    pub fn all(first_seq: u64, last_seq: u64) -> Self {
        Self { first_seq, last_seq, not_before: None }
    }

    pub fn is_empty(&self) -> bool {
        self.first_seq > self.last_seq
    }

    /// Neighbours of which the same is meant as one.
    pub(crate) fn joined(spans: Vec<Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        for span in spans {
            match joined.last_mut() {
                Some(last) if last.last_seq + 1 == span.first_seq && last.not_before == span.not_before => {
                    last.last_seq = span.last_seq;
                }
                _ => joined.push(span),
            }
        }
        joined
    }
}

/// A stored reading as it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    pub seq: u64,
    pub time: Timestamp,
    /// The database's own number of this tag and unit: for whoever keeps something by tag while reading.
    pub tag_id: i64,
    pub tag: &'a str,
    pub value: Option<f64>,
    pub unit: Option<&'a str>,
    pub quality: Quality,
    pub text: Option<&'a str>,
}

/// A `seq` as databases keep it. They count from one and never reach the sign bit.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// 32 hexadecimal digits that no other history has.
pub(crate) fn new_epoch() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// [`Store::probe`], in words that both databases understand.
pub(crate) mod probe {
    use super::Batch;
    use crate::error::StoreError;
    use crate::reading::{Quality, Reading};

    pub const NAME: &str = "update_probe";
    pub const LAY: &str =
        "CREATE TABLE IF NOT EXISTS update_probe (number integer NOT NULL); INSERT INTO update_probe VALUES (1)";
    pub const READ: &str = "SELECT count(*) FROM update_probe";
    pub const REMOVE: &str = "DROP TABLE IF EXISTS update_probe";
    pub const COUNT: &str =
        "SELECT count(*) FROM readings WHERE tag = $1 AND seq > (SELECT last_seq FROM head) - 4 AND quality = 192";

    pub fn readings() -> Vec<Reading> {
        let reading = Reading {
            time: protocol::Timestamp::EPOCH,
            tag: NAME.into(),
            value: Some(1.0),
            unit: None,
            quality: Quality::GOOD,
            text: None,
        };
        vec![reading; 4]
    }

    pub fn batch(readings: &[Reading]) -> Batch<'_> {
        Batch { writer: NAME, from: 0, to: 1, readings, gaps: &[] }
    }

    pub fn check(is_there: bool) -> Result<(), StoreError> {
        match is_there {
            true => Ok(()),
            false => Err(StoreError::Refused("what was stored to try is not there".into())),
        }
    }
}
