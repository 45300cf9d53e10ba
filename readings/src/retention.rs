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
pub(crate) const AT_ONCE: u64 = 50_000;
/// A batch from farther ahead was stored under a wrong clock, and says nothing of how old its neighbours are.
const CLOCK_ERROR: Duration = Duration::from_secs(24 * 60 * 60);

impl Retirement {
    /// Batches that end between [`Self::before`] and this are young.
    pub(crate) fn latest(&self) -> Timestamp {
        self.now.saturating_add(CLOCK_ERROR)
    }
}

/// A row of `gaps`.
pub(crate) struct Row {
    pub at_seq: u64,
    /// Of readings that were stored.
    pub first_seq: Option<u64>,
    pub gap: Gap,
}

impl Row {
    /// As it concerns somebody who has everything up to `place`.
    pub fn behind(self, place: u64) -> Gap {
        let readings = match self.first_seq {
            Some(first_seq) => self.at_seq - place.clamp(first_seq - 1, self.at_seq),
            None => self.gap.readings,
        };
        Gap { readings, ..self.gap }
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
