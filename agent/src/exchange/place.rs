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

/// `until` is where an export that broke off was to end.
pub fn find(start: &Start, until: Option<&Cursor>, key: &str, head: &Head, cuts: &Cuts) -> rusqlite::Result<Found> {
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
            for named in [Some(cursor), until].into_iter().flatten() {
                if let Some(first_seq) = rolled_back(named, head, cuts)? {
                    return Ok(Found::RolledBack { first_seq });
                }
            }
            let recorded = recorded(cursor, cuts)?;
            let (seq, exact) = locate(&cursor.epoch, cursor.seq, head, cuts)?;
            Place { seq, exact, overlap_from: None, acknowledges: recorded }
        }
    };
    Ok(Found::Place(place))
}

/// If HQ was told something of the current epoch that this plant does not know of any more: from where on what it knows may
/// be another history. Up to the newest cut that is older than what HQ names, both have the same; others may have pulled far
/// beyond it since, so how far anybody was told says nothing.
fn rolled_back(named: &Cursor, head: &Head, cuts: &Cuts) -> rusqlite::Result<Option<u64>> {
    if named.epoch != head.epoch() {
        return Ok(None);
    }
    let beginning = head.epochs.last().map_or(1, |start| start.first_seq);
    let Some(period_end) = named.cut else {
        // Within an export, and so within a cut.
        let farthest = cuts.farthest_in(&named.epoch)?.unwrap_or(head.last_seq);
        return Ok((named.seq > farthest).then_some(beginning));
    };
    if recorded(named, cuts)?.is_some() {
        return Ok(None);
    }
    match cuts.newest_at_or_before(period_end)?.filter(|before| before.epoch == named.epoch) {
        Some(before) => Ok((before.seq < named.seq).then_some(before.seq + 1)),
        // The record of what was told then was damaged, not the plant.
        None if cuts.forgot_at()?.is_some_and(|at| period_end <= at) && named.seq <= head.last_seq => Ok(None),
        None => Ok(Some(beginning)),
    }
}

/// The cut that a cursor names, if it was made here.
fn recorded(cursor: &Cursor, cuts: &Cuts) -> rusqlite::Result<Option<Cut>> {
    let Some(period_end) = cursor.cut else { return Ok(None) };
    Ok(cuts.at(period_end)?.filter(|cut| cut.epoch == cursor.epoch && cut.seq == cursor.seq))
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
        match find(start, None, "hq", head, cuts).unwrap() {
            Found::Place(place) => (place.seq, place.exact),
            Found::RolledBack { .. } => panic!("rolled back"),
        }
    }

    #[test]
    fn a_recorded_cut_is_exact_and_acknowledged_and_any_other_time_overlaps() {
        let (_folder, mut cuts) = cuts();
        let head = head(&[(ONE, 1)], 900);
        assert_eq!(find(&Start::Unsaid, None, "hq", &head, &cuts).unwrap(), Found::Place(Place::beginning(true)));
        assert_eq!(seq_and_exact(&Start::Since(Timestamp::EPOCH), &head, &cuts), (0, false));
        let cut = cuts.record(ONE, 800).unwrap();
        let Found::Place(place) = find(&Start::Since(cut.period_end), None, "hq", &head, &cuts).unwrap() else {
            panic!()
        };
        assert_eq!((place.seq, place.exact, place.overlap_from), (800, true, None));
        cuts.acknowledge("hq", &place.acknowledges.unwrap()).unwrap();
        assert_eq!(seq_and_exact(&Start::Unsaid, &head, &cuts), (800, true));
        let later = cut.period_end.saturating_add(std::time::Duration::from_secs(1));
        let Found::Place(place) = find(&Start::Since(later), None, "hq", &head, &cuts).unwrap() else { panic!() };
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

    fn named(seq: u64, cut: Timestamp) -> Cursor {
        Cursor { epoch: ONE.to_owned(), seq, cut: Some(cut) }
    }

    fn rolled_back_to(start: &Start, until: Option<&Cursor>, head: &Head, cuts: &Cuts) -> Option<u64> {
        match find(start, until, "hq", head, cuts).unwrap() {
            Found::Place(_) => None,
            Found::RolledBack { first_seq } => Some(first_seq),
        }
    }

    /// A cut that was made after `before`, and that a rolled-back disk has lost.
    fn lost_after(before: &Cut) -> Timestamp {
        before.period_end.saturating_add(std::time::Duration::from_micros(1))
    }

    #[test]
    fn a_cut_that_was_never_made_here_asks_for_a_new_epoch_behind_the_last_one_that_was() {
        let (_folder, mut cuts) = cuts();
        let head = head(&[(ONE, 1)], 900);
        let before = cuts.record(ONE, 450).unwrap();
        let lost = lost_after(&before);
        let beyond = Start::Cursor(named(1000, lost));
        assert_eq!(rolled_back_to(&beyond, None, &head, &cuts), Some(451));
        assert_eq!(seq_and_exact(&Start::Cursor(named(450, before.period_end)), &head, &cuts), (450, true));
        // Others have pulled since: less far than what is named, or farther.
        for others in [700, 1200] {
            while cuts.record(ONE, others).unwrap().period_end == lost {}
            assert_eq!(rolled_back_to(&beyond, None, &head, &cuts), Some(451), "{others}");
        }
        // In the middle of an export, the place says nothing, but the cut that it was to end at does.
        let (middle, until) = (cursor(ONE, 460), named(1000, lost));
        assert_eq!(rolled_back_to(&middle, Some(&until), &head, &cuts), Some(451));
        assert_eq!(rolled_back_to(&cursor(ONE, 1201), None, &head, &cuts), Some(1));
    }

    #[test]
    fn before_every_cut_of_the_epoch_all_of_it_is_told_anew_unless_only_the_record_was_damaged() {
        let (folder, mut cuts) = cuts();
        let head = head(&[(TWO, 1), (ONE, 301)], 900);
        let first = cuts.record(ONE, 800).unwrap();
        let lost = first.period_end.saturating_sub(std::time::Duration::from_secs(1));
        let start = Start::Cursor(named(500, lost));
        assert_eq!(rolled_back_to(&start, None, &head, &cuts), Some(301));
        drop(cuts);
        let file = folder.path().join("exports.db");
        std::fs::write(&file, [7; 8192]).unwrap();
        let _ = std::fs::remove_file(file.with_extension("db-wal"));
        let cuts = Cuts::open(&file).unwrap();
        assert_eq!(seq_and_exact(&start, &head, &cuts), (500, true));
        assert_eq!(rolled_back_to(&Start::Cursor(named(901, lost)), None, &head, &cuts), Some(301));
    }
}
