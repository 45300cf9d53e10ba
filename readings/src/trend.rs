//! What a tag did over a while, in as many pieces as can be drawn: of each, smallest and largest, first and last value, so
//! that no peak is lost however far one looks from.
//!
//! Long whiles come from the rollups, short ones from the readings. All of one answer is read in one snapshot.

use std::collections::BTreeMap;

use protocol::Timestamp;

use crate::error::StoreError;
use crate::reading::Quality;
use crate::rollup::{HOUR, MINUTE, Rollup, start_of};
use crate::store::Span;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct TrendQuery<'a> {
    pub tag: &'a str,
    /// Inclusive.
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    /// About how many pieces; never more than twice as many.
    pub pieces: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// Of the newest readings; a tag may have had others.
    pub unit: Option<String>,
    /// How long a piece is, in microseconds.
    pub length: i64,
    /// By their beginning; those without a reading are left out.
    pub pieces: Vec<(Timestamp, Rollup)>,
}

/// So many readings are looked through for one answer; where it would be more, minutes have to do.
const MOST_READINGS: u64 = 500_000;
/// So many minutes are looked up one by one; for a longer while, hours have to do.
const MOST_MINUTES: i64 = 22_000;

/// A database at one moment.
pub(crate) trait Snapshot {
    /// The ids of a tag, in the order in which they were given out, with their units.
    fn ids(&mut self, tag: &str) -> Result<Vec<(i64, Option<String>)>, StoreError>;

    /// How far the rollups go, and how far the readings.
    fn rolled_and_last_seq(&mut self) -> Result<(u64, u64), StoreError>;

    /// Of these tags, the rollups of spans of `length` that begin within `starts`.
    fn rollups(
        &mut self,
        length: i64,
        starts: std::ops::Range<i64>,
        ids: &[i64],
        each: &mut dyn FnMut(i64, Rollup),
    ) -> Result<(), StoreError>;

    /// Where in the order readings of this while may lie.
    fn spans(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<Span>, StoreError>;

    /// Readings of these tags in a part of the order, in that order.
    fn readings(
        &mut self,
        span: Span,
        ids: &[i64],
        each: &mut dyn FnMut(Timestamp, Option<f64>, Quality),
    ) -> Result<(), StoreError>;
}

/// `None` if there is no such tag.
pub(crate) fn trend(snapshot: &mut dyn Snapshot, query: TrendQuery<'_>) -> Result<Option<Trend>, StoreError> {
    let mut named = snapshot.ids(query.tag)?;
    let Some((_, unit)) = named.last_mut() else { return Ok(None) };
    let unit = unit.take();
    let ids: Vec<i64> = named.into_iter().map(|(id, _)| id).collect();
    let (from, to) = (query.from.as_micros(), query.to.as_micros());
    let asked = (to.saturating_sub(from) / i64::from(query.pieces.max(1))).max(1);
    let spans = if asked < MINUTE { snapshot.spans(query.from, query.to)? } else { Vec::new() };
    let to_look_through: u64 = spans.iter().map(|span| (span.last_seq + 1).saturating_sub(span.first_seq)).sum();
    let length = if asked < MINUTE && to_look_through <= MOST_READINGS {
        asked
    } else if asked < HOUR && to.saturating_sub(from) / MINUTE <= MOST_MINUTES {
        asked.div_euclid(MINUTE).max(1) * MINUTE
    } else {
        asked.div_euclid(HOUR).max(1) * HOUR
    };
    let mut pieces = Pieces { length, from, to, of: BTreeMap::new() };
    if length < MINUTE {
        for span in spans {
            snapshot.readings(span, &ids, &mut |time, value, quality| pieces.add_reading(time, value, quality))?;
        }
    } else {
        pieces.add_rollups(snapshot, &ids)?;
        let (rolled_seq, last_seq) = snapshot.rolled_and_last_seq()?;
        let behind = Span::all(rolled_seq + 1, last_seq);
        snapshot.readings(behind, &ids, &mut |time, value, quality| pieces.add_reading(time, value, quality))?;
    }
    let time = |start| Timestamp::from_micros(start).unwrap_or(Timestamp::EPOCH);
    let pieces = pieces.of.into_iter().map(|(start, rollup)| (time(start), rollup)).collect();
    Ok(Some(Trend { unit, length, pieces }))
}

struct Pieces {
    length: i64,
    from: i64,
    to: i64,
    of: BTreeMap<i64, Rollup>,
}

impl Pieces {
    fn add_reading(&mut self, time: Timestamp, value: Option<f64>, quality: Quality) {
        if (self.from..self.to).contains(&time.as_micros()) {
            let start = start_of(time, self.length);
            self.of.entry(start).or_default().add(&Rollup::of(time, value, quality));
        }
    }

    /// Minutes where hours are too coarse; but hours where not all minutes are there any more.
    fn add_rollups(&mut self, snapshot: &mut dyn Snapshot, ids: &[i64]) -> Result<(), StoreError> {
        let (from, length) = (self.from, self.length);
        let starts = from.div_euclid(HOUR) * HOUR..self.to;
        let mut hours = Vec::new();
        snapshot.rollups(HOUR, starts.clone(), ids, &mut |start, hour| hours.push((start, hour)))?;
        let mut minutes: BTreeMap<i64, Vec<(i64, Rollup)>> = BTreeMap::new();
        if length < HOUR {
            let whole_hours = starts.start..starts.end.saturating_add(HOUR - 1).div_euclid(HOUR) * HOUR;
            let mut add = |start: i64, minute| {
                minutes.entry(start.div_euclid(HOUR) * HOUR).or_default().push((start, minute));
            };
            snapshot.rollups(MINUTE, whole_hours, ids, &mut add)?;
        }
        let mut add = |start: i64, rollup: &Rollup| {
            self.of.entry(start.div_euclid(length) * length).or_default().add(rollup);
        };
        // Of several tags of one name, all together.
        let mut by_hour: BTreeMap<i64, Rollup> = BTreeMap::new();
        hours.into_iter().for_each(|(start, hour)| by_hour.entry(start).or_default().add(&hour));
        for (start, hour) in by_hour {
            let minutes = minutes.remove(&start).unwrap_or_default();
            let is_whole = minutes.iter().map(|(_, minute)| minute.readings).sum::<u64>() == hour.readings;
            match is_whole {
                true => minutes
                    .iter()
                    .filter(|(start, _)| start + MINUTE > from && *start < starts.end)
                    .for_each(|(start, minute)| add(*start, minute)),
                false => add(start, &hour),
            }
        }
        Ok(())
    }
}
