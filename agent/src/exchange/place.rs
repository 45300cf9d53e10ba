//! Where an export starts: from what HQ sent to a place in the database as it is now.

use protocol::Timestamp;
use readings::{Cursor, Head};

use super::cuts::{Cut, Cuts};

/// What HQ asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// From where this key last acknowledged, else everything.
    Unsaid,
    Since(Timestamp),
    Cursor(Cursor),
}

/// Behind which reading an export starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub seq: u64,
    /// An exact place, or a time answered with overlap.
    pub exact: bool,
    /// Readings of this time or later are sent although they lie before `seq`.
    pub overlap_from: Option<Timestamp>,
    /// The cut that HQ has handed back.
    pub acknowledges: Option<Cut>,
}

/// What came of looking for a place.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Place(Place),
    /// HQ knows more of the current epoch than this plant ever told: the whole disk was rolled back. A new epoch has to
    /// begin at `first_seq`.
    RolledBack {
        first_seq: u64,
    },
}

impl Place {
    fn beginning(exact: bool) -> Self {
        Self { seq: 0, exact, overlap_from: None, acknowledges: None }
    }
}

pub fn find(start: &Start, key: &str, head: &Head, cuts: &Cuts) -> rusqlite::Result<Found> {
    let place = match start {
        Start::Unsaid => match cuts.acknowledged(key)? {
            Some(cut) => at_cut(cut, None, head, cuts)?,
            None => Place::beginning(true),
        },
        Start::Since(time) => match cuts.newest_at_or_before(*time)? {
            Some(cut) if cut.period_end == *time => at_cut(cut.clone(), Some(cut), head, cuts)?,
            Some(cut) => Place { exact: false, overlap_from: Some(*time), ..at_cut(cut, None, head, cuts)? },
            None => Place::beginning(false),
        },
        Start::Cursor(cursor) => {
            let farthest = cuts.farthest_in(&cursor.epoch)?;
            if cursor.epoch == head.epoch() && cursor.seq > farthest.unwrap_or(head.last_seq) {
                return Ok(Found::RolledBack { first_seq: farthest.unwrap_or(head.last_seq) + 1 });
            }
            let mut recorded = None;
            if let Some(period_end) = cursor.cut {
                recorded = cuts.at(period_end)?.filter(|cut| cut.epoch == cursor.epoch && cut.seq == cursor.seq);
                // A cut of this epoch that was never made here, though an earlier one was: others may have pulled past
                // it since the disk was rolled back.
                let before = cuts.newest_at_or_before(period_end)?.filter(|before| before.epoch == cursor.epoch);
                if let (None, Some(before)) = (&recorded, before)
                    && cursor.epoch == head.epoch()
                    && before.seq < cursor.seq
                {
                    return Ok(Found::RolledBack { first_seq: before.seq + 1 });
                }
            }
            let (seq, exact) = locate(&cursor.epoch, cursor.seq, head, cuts)?;
            Place { seq, exact, overlap_from: None, acknowledges: recorded }
        }
    };
    Ok(Found::Place(place))
}

fn at_cut(cut: Cut, acknowledges: Option<Cut>, head: &Head, cuts: &Cuts) -> rusqlite::Result<Place> {
    let (seq, exact) = locate(&cut.epoch, cut.seq, head, cuts)?;
    Ok(Place { seq, exact, overlap_from: None, acknowledges })
}

/// The place in this database that the holder of (`epoch`, `seq`) has everything up to. An epoch that a restored
/// database has lost is followed back to the one it began in; one that nobody here knows means the beginning.
fn locate(epoch: &str, seq: u64, head: &Head, cuts: &Cuts) -> rusqlite::Result<(u64, bool)> {
    let (mut epoch, mut seq) = (epoch.to_owned(), seq);
    loop {
        if let Some(seq) = head.locate(&epoch, seq) {
            return Ok((seq, true));
        }
        match cuts.beginning_of(&epoch)? {
            Some(beginning) => (epoch, seq) = beginning,
            None => return Ok((0, false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use readings::EpochStart;

    use super::*;

    const ONE: &str = "11111111111111111111111111111111";
    const TWO: &str = "22222222222222222222222222222222";
    const THREE: &str = "33333333333333333333333333333333";

    fn head(epochs: &[(&str, u64)], last_seq: u64) -> Head {
        let epochs =
            epochs.iter().map(|(epoch, first_seq)| EpochStart { epoch: (*epoch).to_owned(), first_seq: *first_seq });
        Head { epochs: epochs.collect(), first_seq: 1, last_seq }
    }

    fn cuts() -> (tempfile::TempDir, Cuts) {
        let folder = tempfile::tempdir().unwrap();
        let cuts = Cuts::open(&folder.path().join("exports.db")).unwrap();
        (folder, cuts)
    }

    fn cursor(epoch: &str, seq: u64) -> Start {
        Start::Cursor(Cursor { epoch: epoch.to_owned(), seq, cut: None })
    }

    fn seq_and_exact(start: &Start, head: &Head, cuts: &Cuts) -> (u64, bool) {
        match find(start, "hq", head, cuts).unwrap() {
            Found::Place(place) => (place.seq, place.exact),
            Found::RolledBack { .. } => panic!("rolled back"),
        }
    }

    #[test]
    fn a_recorded_cut_is_exact_and_acknowledged_and_any_other_time_overlaps() {
        let (_folder, mut cuts) = cuts();
        let head = head(&[(ONE, 1)], 900);
        assert_eq!(find(&Start::Unsaid, "hq", &head, &cuts).unwrap(), Found::Place(Place::beginning(true)));
        assert_eq!(seq_and_exact(&Start::Since(Timestamp::EPOCH), &head, &cuts), (0, false));
        let cut = cuts.record(ONE, 800).unwrap();
        let Found::Place(place) = find(&Start::Since(cut.period_end), "hq", &head, &cuts).unwrap() else { panic!() };
        assert_eq!((place.seq, place.exact, place.overlap_from), (800, true, None));
        cuts.acknowledge("hq", &place.acknowledges.unwrap()).unwrap();
        assert_eq!(seq_and_exact(&Start::Unsaid, &head, &cuts), (800, true));
        let later = cut.period_end.saturating_add(std::time::Duration::from_secs(1));
        let Found::Place(place) = find(&Start::Since(later), "hq", &head, &cuts).unwrap() else { panic!() };
        assert_eq!(place, Place { seq: 800, exact: false, overlap_from: Some(later), acknowledges: None });
    }

    #[test]
    fn a_place_in_a_lost_history_is_followed_back_to_where_it_branched_off() {
        let (_folder, cuts) = cuts();
        cuts.learn(&head(&[(ONE, 1), (TWO, 800)], 1000)).unwrap();
        // Restored from a dump that was taken when epoch one was at 500; epoch three began then.
        let restored = head(&[(ONE, 1), (THREE, 501)], 600);
        assert_eq!(seq_and_exact(&cursor(TWO, 1000), &restored, &cuts), (500, true));
        assert_eq!(seq_and_exact(&cursor(ONE, 300), &restored, &cuts), (300, true));
        assert_eq!(seq_and_exact(&cursor("44444444444444444444444444444444", 7), &restored, &cuts), (0, false));
    }

    #[test]
    fn a_cursor_beyond_everything_told_asks_for_a_new_epoch() {
        let (_folder, mut cuts) = cuts();
        let head = head(&[(ONE, 1)], 900);
        assert_eq!(find(&cursor(ONE, 901), "hq", &head, &cuts).unwrap(), Found::RolledBack { first_seq: 901 });
        cuts.record(ONE, 850).unwrap();
        assert_eq!(find(&cursor(ONE, 1000), "hq", &head, &cuts).unwrap(), Found::RolledBack { first_seq: 851 });
        assert_eq!(seq_and_exact(&cursor(ONE, 850), &head, &cuts), (850, true));
    }

    #[test]
    fn a_cut_that_was_never_made_here_asks_for_a_new_epoch_even_when_others_have_pulled_past_it() {
        let (_folder, mut cuts) = cuts();
        let before = cuts.record(ONE, 450).unwrap();
        let lost = before.period_end.saturating_add(std::time::Duration::from_micros(1));
        while cuts.record(ONE, 1200).unwrap().period_end == lost {}
        let head = head(&[(ONE, 1)], 1300);
        let start = |seq, cut| Start::Cursor(Cursor { epoch: ONE.to_owned(), seq, cut: Some(cut) });
        let found = find(&start(1000, lost), "hq", &head, &cuts).unwrap();
        assert_eq!(found, Found::RolledBack { first_seq: 451 });
        assert_eq!(seq_and_exact(&start(450, before.period_end), &head, &cuts), (450, true));
    }
}
