//! Readings that are given up: what [`Store::retire`] takes from the old end, and the gaps that tell of it.
//!
//! A gap lies at a place in the order (`gaps.at_seq`), so that HQ hears of it once, like of a reading: of stored readings
//! that were dropped at the last of them; of readings that never were stored at the last one of the batch that was stored
//! next.
//!
//! [`Store::retire`]: crate::Store::retire

use std::time::Duration;

use protocol::Timestamp;
use protocol::export::Gap;

use crate::error::StoreError;

/// What may be dropped.
#[derive(Clone, Copy, Debug)]
pub struct Retirement {
    /// Nothing behind this place.
    pub through_seq: u64,
    /// Only batches whose newest reading is of before; the first younger one ends it, so that what is kept has no holes.
    pub before: Timestamp,
    pub now: Timestamp,
    /// A stable word, for the gap.
    pub reason: &'static str,
}

/// Readings that go in one transaction, about: it must not keep a batch waiting for long.
const AT_ONCE: u64 = 50_000;
/// Batches that are looked at in one statement.
pub(crate) const LOOKED_AT: u32 = 1000;
/// A batch from farther ahead was stored under a wrong clock, and says nothing of how old its neighbours are.
const CLOCK_ERROR: Duration = Duration::from_secs(24 * 60 * 60);

/// A row of `batches`.
pub(crate) struct BatchRow {
    pub first_seq: u64,
    pub last_seq: u64,
    pub first_time: Timestamp,
    pub last_time: Timestamp,
}

/// Batches from the oldest to the one that ends at `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub first_seq: u64,
    pub through: u64,
    pub first_time: Timestamp,
    pub last_time: Timestamp,
}

impl Retirement {
    /// What goes in one transaction, if anything may. `next` gives the [`LOOKED_AT`] oldest batches behind a place; no more
    /// of them are looked at than are dropped, but for those of a wrong clock.
    pub(crate) fn choose(
        &self,
        next: &mut dyn FnMut(u64) -> Result<Vec<BatchRow>, StoreError>,
    ) -> Result<Option<Chosen>, StoreError> {
        let latest = self.now.saturating_add(CLOCK_ERROR);
        let (mut chosen, mut all): (Option<Chosen>, Option<Chosen>) = (None, None);
        loop {
            let batches = next(all.map_or(0, |all| all.through))?;
            if batches.is_empty() {
                return Ok(chosen);
            }
            for BatchRow { first_seq, last_seq, first_time, last_time } in batches {
                let is_ahead = last_time > latest;
                let is_enough = chosen.is_some_and(|chosen| last_seq >= chosen.first_seq + AT_ONCE);
                if last_seq > self.through_seq || is_enough || (!is_ahead && last_time >= self.before) {
                    return Ok(chosen);
                }
                let before = all.unwrap_or(Chosen { first_seq, through: last_seq, first_time, last_time });
                let (first_time, last_time) = (before.first_time.min(first_time), before.last_time.max(last_time));
                all = Some(Chosen { first_seq: before.first_seq, through: last_seq, first_time, last_time });
                if !is_ahead {
                    chosen = all;
                }
            }
        }
    }
}

/// A row of `gaps`.
pub(crate) struct GapRow {
    pub at_seq: u64,
    /// Of readings that were stored.
    pub first_seq: Option<u64>,
    pub gap: Gap,
}

/// A gap grows for as long as it goes on for the same reason, and spans less than this: so it says about when.
pub(crate) const GROWS_FOR: Duration = Duration::from_secs(24 * 60 * 60);

impl GapRow {
    /// As it concerns somebody who has everything up to `place` and now gets everything up to `through`.
    pub fn between(self, place: u64, through: u64) -> Option<Gap> {
        let readings = match self.first_seq {
            Some(first_seq) => {
                let (first, last) = (first_seq.max(place.saturating_add(1)), self.at_seq.min(through));
                last.saturating_add(1).saturating_sub(first)
            }
            None => self.gap.readings,
        };
        (readings > 0).then_some(Gap { readings, ..self.gap })
    }
}

/// No more than `most`, by making one of all that have the same reason, the older ones first.
pub fn condense(gaps: Vec<Gap>, most: usize) -> Vec<Gap> {
    let too_many = gaps.len().saturating_sub(most);
    let mut condensed: Vec<Gap> = Vec::new();
    let mut merged = 0;
    for gap in gaps {
        let same = condensed.iter_mut().find(|other| other.reason == gap.reason).filter(|_| merged < too_many);
        match same {
            Some(same) => {
                merged += 1;
                same.from = same.from.min(gap.from);
                same.to = same.to.max(gap.to);
                same.readings += gap.readings;
            }
            None => condensed.push(gap),
        }
    }
    condensed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_gaps_become_few_and_none_of_the_readings_is_forgotten() {
        let gap = |number: i64| Gap {
            from: Timestamp::from_micros(number * 10).unwrap(),
            to: Timestamp::from_micros(number * 10 + 5).unwrap(),
            readings: 1,
            reason: ["spool_full", "disk_low"][number as usize % 2].to_owned(),
        };
        let gaps: Vec<Gap> = (0..100).map(gap).collect();
        assert_eq!(condense(gaps[..8].to_vec(), 8), gaps[..8]);
        let condensed = condense(gaps.clone(), 8);
        assert_eq!(condensed.len(), 8);
        assert_eq!(condensed.iter().map(|gap| gap.readings).sum::<u64>(), 100);
        assert_eq!((condensed[0].from, condensed[7].to), (gaps[0].from, gaps[99].to));
    }
}
