//! The spool: every accepted batch, in order, on disk, until the store has it.
//!
//! Append-only segment files; a record is synced before [`Spool::append`] returns, and carries a checksum and what was
//! known of the database at that time. A process always begins a segment of its own, so a torn record can only be the
//! last of a segment: whatever follows a bad checksum was never accepted.

mod record;
mod segment;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::export::Gap;
use protocol::{Failure, Timestamp};
use readings::{Reading, condense};

pub use record::Known;
use segment::{DAMAGED, Entry, Segment};

/// A new segment begins behind so many bytes. Room is given back by whole segments.
const SEGMENT_BYTES: u64 = 16 << 20;
/// What is lost is noted at first so often, then after a tenth of the time that it has gone on.
const NOTE_LOST_EVERY: Duration = Duration::from_secs(5);
const NOTE_LOST_AT_LEAST_EVERY: Duration = Duration::from_secs(600);

pub struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    disk_reserve_bytes: u64,
    segments: VecDeque<Segment>,
    /// The last of `segments` takes records; false before the first record and after a failed write.
    open: bool,
    last_position: u64,
    known: Option<Known>,
    damaged: u64,
    /// Readings that were not accepted, and of which no record tells yet, by reason.
    lost: Vec<Gap>,
    losing: Option<Losing>,
    rate: Rate,
}

/// Since when nothing is accepted, and when that was last noted.
struct Losing {
    since: Instant,
    noted: Instant,
}

/// Batches out of the spool, joined.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    /// Of the last one.
    pub position: u64,
    pub readings: Vec<Reading>,
    /// Readings that were not accepted before the last of these, one for each reason.
    pub gaps: Vec<Gap>,
}

/// Why readings were not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the spool is full: {bytes} of {max} bytes; bring the database back or raise SPOOL_MAX_BYTES")]
    Full { bytes: u64, max: u64 },
    #[error("the disk is nearly full: {free} bytes free, {reserve} are kept in reserve (LOW_DISK_RESERVE_BYTES)")]
    DiskLow { free: u64, reserve: u64 },
    #[error(transparent)]
    File(#[from] io::Error),
}

/// What lies in the spool and is not in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stock {
    pub readings: u64,
    pub oldest_time: Option<Timestamp>,
    /// `None` while nothing comes in.
    pub seconds_left: Option<f64>,
}

impl SpoolError {
    /// A stable word, for metrics and gaps.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Full { .. } => "spool_full",
            Self::DiskLow { .. } => "disk_low",
            Self::File(_) => "disk_error",
        }
    }
}

impl Spool {
    /// Reads what earlier processes left.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub fn open(folder: &Path, max_bytes: u64, disk_reserve_bytes: u64) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(|error| durable::name_error("create", folder, error))?;
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|error| durable::name_error("read", folder, error))? {
            let path = entry.map_err(|error| durable::name_error("read", folder, error))?.path();
            if path.extension().is_some_and(|ending| ending == "spool") {
                paths.push(path);
            }
        }
        // Named after their first position, with leading zeros.
        paths.sort();
        let mut segments = VecDeque::new();
        let (mut last_position, mut known, mut damaged) = (0, None, Vec::new());
        for path in paths {
            let segment = Segment::read(&path, &mut known, &mut damaged)?;
            last_position = segment.last_position().unwrap_or(last_position);
            segments.push_back(segment);
        }
        // Positions only have to rise. Beginning at the clock keeps them from meeting positions that a rolled-back disk
        // has forgotten but the database knows.
        last_position = last_position.max(u64::try_from(Timestamp::now().as_micros()).unwrap_or(0));
        // Told already by a process before this one, if there was one since.
        let gaps =
            || segments.iter().flat_map(|segment: &Segment| segment.entries_after(0)).flat_map(|entry| &entry.gaps);
        damaged
            .retain(|gap| !gaps().any(|told| told.reason == gap.reason && told.from <= gap.from && told.to >= gap.to));
        let folder = folder.to_owned();
        Ok(Self {
            folder,
            max_bytes,
            disk_reserve_bytes,
            segments,
            open: false,
            last_position,
            known,
            damaged: damaged.len() as u64,
            lost: condense(damaged, 0),
            losing: None,
            rate: Rate::default(),
        })
    }

    /// Makes a batch durable, or the account of what was lost with it.
    ///
    /// # Errors
    /// [`SpoolError`]; then nothing of the batch was accepted.
    pub fn append(&mut self, readings: &[Reading]) -> Result<(), SpoolError> {
        let outcome = self.try_append(readings);
        if let Err(error) = &outcome {
            self.lose(error.reason(), readings);
        }
        outcome
    }

    fn try_append(&mut self, readings: &[Reading]) -> Result<(), SpoolError> {
        let bytes = self.bytes();
        if bytes >= self.max_bytes {
            return Err(SpoolError::Full { bytes, max: self.max_bytes });
        }
        let free = durable::free_bytes(&self.folder)?;
        if free < self.disk_reserve_bytes {
            return Err(SpoolError::DiskLow { free, reserve: self.disk_reserve_bytes });
        }
        let written = self.write(readings)?;
        self.losing = None;
        self.rate.appended(written, Instant::now());
        Ok(())
    }

    /// Notes durably what is known of the database and what was lost, without readings.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn note(&mut self) -> io::Result<()> {
        if self.known.is_some() || !self.lost.is_empty() { self.write(&[]).map(|_| ()) } else { Ok(()) }
    }

    /// An account of these goes the way of readings. It is small, and written where the spool is full, too: from the disk's
    /// reserve. Not for each batch, so a kill forgets some seconds of it.
    fn lose(&mut self, reason: &str, readings: &[Reading]) {
        let times = || readings.iter().map(|reading| reading.time);
        let Some((from, to)) = times().min().zip(times().max()) else { return };
        let gap = Gap { from, to, readings: readings.len() as u64, reason: reason.to_owned() };
        let before = std::mem::take(&mut self.lost);
        self.lost = condense(before.into_iter().chain([gap]).collect(), 0);
        let is_due = self.losing.as_ref().is_none_or(|losing| {
            let every = losing.since.elapsed() / 10;
            losing.noted.elapsed() >= every.clamp(NOTE_LOST_EVERY, NOTE_LOST_AT_LEAST_EVERY)
        });
        if !is_due {
            return;
        }
        let now = Instant::now();
        self.losing = Some(Losing { since: self.losing.as_ref().map_or(now, |losing| losing.since), noted: now });
        if let Err(error) = self.note() {
            tracing::warn!(%error, "what was lost cannot be noted yet");
        }
    }

    fn write(&mut self, readings: &[Reading]) -> io::Result<u64> {
        let position = self.last_position + 1;
        if !self.open || self.segments.back().is_some_and(|segment| segment.bytes() >= SEGMENT_BYTES) {
            self.segments.push_back(Segment::create(&self.folder, position)?);
            self.open = true;
        }
        let segment = self.segments.back_mut().expect("pushed above if there was none");
        match segment.append(position, self.known.as_ref(), &self.lost, readings) {
            Ok(written) => {
                self.last_position = position;
                self.lost.clear();
                self.drop_stored();
                Ok(written)
            }
            Err(error) => {
                // The segment may end in half a record, or in a whole one that was not confirmed: nothing may follow it
                // in this file, and its position is used up.
                self.open = false;
                self.last_position = position;
                if segment.last_position().is_none()
                    && let Some(mut empty) = self.segments.pop_back()
                {
                    let _ = empty.remove();
                }
                Err(error)
            }
        }
    }

    /// Batches behind `position`, joined up to about `at_most` readings. Gaps wait for readings: they are told with the place
    /// of a reading that nobody has been told of yet.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read_after(&mut self, position: u64, at_most: usize) -> io::Result<Option<Taken>> {
        let (mut readings, mut gaps) = (Vec::new(), Vec::new());
        let (mut last, mut damaged) = (None, 0);
        for (segment, entry) in self.entries_after(position) {
            if !readings.is_empty() && readings.len() + entry.readings > at_most {
                break;
            }
            gaps.extend(entry.gaps.iter().cloned());
            last = Some(entry.position);
            if entry.readings == 0 {
                continue;
            }
            match segment.read_entry(entry, &mut readings) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%error, readings = entry.readings, "a spool record was damaged on disk and is left out");
                    damaged += entry.readings as u64;
                    let (from, to) = entry.times.unwrap_or((Timestamp::EPOCH, Timestamp::EPOCH));
                    gaps.push(Gap { from, to, readings: entry.readings as u64, reason: DAMAGED.to_owned() });
                }
                outcome => outcome?,
            }
        }
        let Some(position) = last.filter(|_| !readings.is_empty()) else { return Ok(None) };
        self.damaged += damaged;
        Ok(Some(Taken { position, readings, gaps: condense(gaps, 0) }))
    }

    /// How much was accepted and then damaged on disk, since this was last asked: readings, or records where it is no
    /// longer known how many readings they held.
    pub fn take_damaged(&mut self) -> u64 {
        std::mem::take(&mut self.damaged)
    }

    pub fn has_after(&self, position: u64) -> bool {
        self.entries_after(position).any(|(_, entry)| entry.readings > 0)
    }

    /// The database has everything up to `known.position`. Becomes durable with the next record; until then the
    /// database's own position tells.
    ///
    /// # Errors
    /// Those of the disk, when segments are removed.
    pub fn acknowledge(&mut self, known: Known) -> io::Result<()> {
        self.known = Some(known);
        self.drop_stored();
        Ok(())
    }

    /// What a look at the database showed.
    pub fn learn(&mut self, known: Known) {
        self.known = Some(known);
    }

    /// What was last known of the database.
    pub fn known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    /// The newest position handed out.
    pub fn last_position(&self) -> u64 {
        self.last_position
    }

    /// The oldest position that the database is not known to have.
    pub fn first_pending(&self) -> Option<u64> {
        let position = self.known.as_ref().map_or(0, |known| known.position);
        self.entries_after(position).next().map(|(_, entry)| entry.position)
    }

    pub fn stock(&self) -> Stock {
        let position = self.known.as_ref().map_or(0, |known| known.position);
        let mut stock = Stock::default();
        for (_, entry) in self.entries_after(position) {
            stock.readings += entry.readings as u64;
            stock.oldest_time = stock.oldest_time.into_iter().chain(entry.times.map(|(oldest, _)| oldest)).min();
        }
        let free = durable::free_bytes(&self.folder).unwrap_or(0).saturating_sub(self.disk_reserve_bytes);
        let room = self.max_bytes.saturating_sub(self.bytes()).min(free);
        stock.seconds_left = self.rate.seconds_for(room, Instant::now());
        stock
    }

    fn entries_after(&self, position: u64) -> impl Iterator<Item = (&Segment, &Entry)> {
        let segments = self.segments.iter().filter(move |segment| segment.last_position() > Some(position));
        segments.flat_map(move |segment| segment.entries_after(position).map(move |entry| (segment, entry)))
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// Removes segments that the database has, but never the newest that holds a record: in it stands what is known.
    fn drop_stored(&mut self) {
        let Some(known) = &self.known else { return };
        while self.segments.len() > 1
            && self.segments.back().is_some_and(|newest| newest.last_position().is_some())
            && self.segments[0].last_position() <= Some(known.position)
        {
            // One that stays is read again at the next start and found stored; no reason to stop for.
            if let Err(error) = self.segments[0].remove() {
                tracing::warn!(%error, "a spool segment that is stored could not be removed");
            }
            self.segments.pop_front();
        }
    }
}

/// Bytes a second: all bytes of the last while by all of its time. Of batches that come unevenly, the mean of their own rates
/// would be far above it.
#[derive(Default)]
struct Rate {
    bytes: f64,
    seconds: f64,
    last: Option<Instant>,
}

/// What lies so long back counts a third.
const RATE_OVER: Duration = Duration::from_secs(120);

impl Rate {
    fn appended(&mut self, bytes: u64, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let passed = now.duration_since(last).as_secs_f64();
            let fading = (-passed / RATE_OVER.as_secs_f64()).exp();
            self.bytes = self.bytes * fading + bytes as f64;
            self.seconds = self.seconds * fading + passed;
        }
    }

    fn seconds_for(&self, bytes: u64, now: Instant) -> Option<f64> {
        // While nothing comes, the rate becomes less.
        let since = self.last.map_or(0.0, |last| now.duration_since(last).as_secs_f64());
        (self.bytes > 0.0).then(|| (bytes as f64 * (self.seconds + since) / self.bytes).round())
    }
}

#[cfg(test)]
mod tests {
    use readings::Quality;

    use super::*;

    fn reading(at: i64, tag: &str) -> Reading {
        let time = Timestamp::from_micros(1_771_754_400_000_000 + at).unwrap();
        let text = (at % 3 == 0).then(|| "текст".to_owned());
        Reading {
            time,
            tag: tag.into(),
            value: Some(at as f64 / 7.0),
            unit: Some("bar".into()),
            quality: Quality::GOOD,
            text,
        }
    }

    #[test]
    fn how_long_the_room_lasts_is_right_however_unevenly_batches_come() {
        for gaps in [[1.0, 1.0, 1.0], [0.2, 0.2, 2.6], [0.1, 1.0, 5.0]] {
            let (mut rate, mut now, mut bytes) = (Rate::default(), Instant::now(), 0);
            let start = now;
            rate.appended(1000, now);
            for gap in gaps.iter().cycle().take(600) {
                now += Duration::from_secs_f64(*gap);
                rate.appended(1000, now);
                bytes += 1000;
            }
            let right = 1e7 * now.duration_since(start).as_secs_f64() / f64::from(bytes);
            let told = rate.seconds_for(10_000_000, now).unwrap();
            assert!((0.9..1.1).contains(&(told / right)), "{gaps:?}: {told} instead of {right}");
        }
        assert_eq!(Rate::default().seconds_for(1, Instant::now()), None);
    }

    fn open(folder: &Path) -> Spool {
        Spool::open(folder, 1 << 30, 0).unwrap()
    }

    fn all(spool: &mut Spool) -> Vec<Reading> {
        spool.read_after(0, usize::MAX).unwrap().unwrap_or_default().readings
    }

    #[test]
    fn what_was_accepted_is_there_after_a_restart_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for start in 0..3 {
            let mut spool = open(folder.path());
            for batch in 0..4 {
                let batch = [reading(start * 10 + batch, "a"), reading(start * 10 + batch, "b")];
                spool.append(&batch).unwrap();
                expected.extend(batch);
            }
            assert_eq!(all(&mut spool), expected);
        }
        let mut spool = open(folder.path());
        assert_eq!(all(&mut spool), expected);
        assert_eq!(spool.stock().readings, 24);
        assert_eq!(spool.stock().oldest_time, Some(expected[0].time));
    }

    #[test]
    fn a_tail_torn_at_any_byte_loses_only_the_record_that_was_not_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        spool.append(&[reading(1, "a")]).unwrap();
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::metadata(&path).unwrap().len();
        spool.append(&[reading(2, "a"), reading(3, "b")]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in whole..bytes.len() as u64 {
            std::fs::write(&path, &bytes[..cut as usize]).unwrap();
            let mut spool = open(folder.path());
            assert_eq!(all(&mut spool), [reading(1, "a")], "cut at {cut}");
            // And what is accepted from now on is not hidden behind the torn record.
            spool.append(&[reading(4, "c")]).unwrap();
            assert_eq!(all(&mut open(folder.path())), [reading(1, "a"), reading(4, "c")]);
            for path in std::fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|other| *other != path)
            {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    #[test]
    fn damage_in_the_middle_loses_one_record_says_so_and_mixes_up_no_tags() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        let mut ends = Vec::new();
        for (at, tag) in ["a", "b", "c", "d"].iter().enumerate() {
            spool.append(&[reading(at as i64, tag), reading(at as i64, "a")]).unwrap();
            ends.push(spool.bytes());
        }
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        for at in ends[0]..ends[1] {
            let mut bytes = whole.clone();
            bytes[at as usize] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let mut spool = open(folder.path());
            let expected: Vec<_> = [(0, "a"), (2, "c"), (3, "d")]
                .iter()
                .flat_map(|(at, tag)| [reading(*at, tag), reading(*at, "a")])
                .collect();
            assert_eq!(all(&mut spool), expected, "byte {at}");
            assert_eq!(spool.take_damaged(), 1);
            // Headquarters is told, once, also when the next process finds it again.
            spool.append(&[reading(9, "e")]).unwrap();
            let gaps = |spool: &mut Spool| spool.read_after(0, usize::MAX).unwrap().unwrap().gaps;
            let (from, to) = (reading(0, "a").time, reading(2, "c").time);
            let told = [Gap { from, to, readings: 1, reason: DAMAGED.to_owned() }];
            assert_eq!(gaps(&mut spool), told, "byte {at}");
            let mut again = open(folder.path());
            again.append(&[reading(10, "e")]).unwrap();
            assert_eq!(gaps(&mut again), told, "byte {at}");
            for entry in std::fs::read_dir(folder.path()).unwrap().flatten().filter(|entry| entry.path() != path) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    #[test]
    fn stored_segments_go_and_what_is_known_stays() {
        let folder = tempfile::tempdir().unwrap();
        let epoch = "0123456789abcdef0123456789abcdef".to_owned();
        for start in 0..5 {
            let mut spool = open(folder.path());
            if start > 0 {
                assert_eq!(spool.known().map(|known| known.epoch.as_str()), (start > 1).then_some(epoch.as_str()));
            }
            spool.append(&[reading(start, "a")]).unwrap();
            let position = spool.last_position();
            spool.acknowledge(Known { epoch: epoch.clone(), position }).unwrap();
            assert!(!spool.has_after(position));
            assert_eq!(spool.stock().readings, 0);
            if start > 0 {
                spool.note().unwrap();
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(open(folder.path()).known().unwrap().epoch, epoch);
    }

    #[test]
    fn a_full_spool_refuses_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 300, 0).unwrap();
        let accepted = (0..100).take_while(|at| spool.append(&[reading(*at, "a")]).is_ok()).count();
        assert!((1..20).contains(&accepted), "{accepted}");
        assert!(matches!(spool.append(&[reading(0, "a")]), Err(SpoolError::Full { .. })));
        assert_eq!(all(&mut open(folder.path())).len(), accepted);
        let mut low = Spool::open(folder.path(), 1 << 30, u64::MAX).unwrap();
        assert!(matches!(low.append(&[reading(0, "a")]), Err(SpoolError::DiskLow { .. })));
    }

    #[test]
    fn what_a_full_spool_refuses_is_told_with_the_next_readings_also_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 300, 0).unwrap();
        let refused = (0..50).filter(|at| spool.append(&[reading(*at, "a"), reading(*at, "b")]).is_err());
        let (first, refused) = refused.fold((None, 0), |(first, count), at| (first.or(Some(at)), count + 2));
        // The first one is noted at once; then not each.
        let stored = spool.read_after(0, 1 << 20).unwrap().unwrap();
        let time = |at| reading(at, "a").time;
        let gap =
            |from, to, readings| Gap { from: time(from), to: time(to), readings, reason: "spool_full".to_owned() };
        let first = first.unwrap();
        assert_eq!(stored.gaps, [gap(first, first, 2)]);
        let last_stored = stored.position;
        spool.note().unwrap();
        drop(spool);
        let mut spool = open(folder.path());
        assert_eq!(spool.read_after(last_stored, 9).unwrap(), None, "a gap waits for readings");
        spool.append(&[reading(70, "a")]).unwrap();
        for spool in [&mut spool, &mut open(folder.path())] {
            let taken = spool.read_after(last_stored, 9).unwrap().unwrap();
            assert_eq!(taken.gaps, [gap(first + 1, 49, refused - 2)]);
            assert_eq!(taken.readings, [reading(70, "a")]);
        }
    }

    #[test]
    fn small_batches_are_joined_up_to_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        for at in 0..10 {
            spool.append(&[reading(at, "a"), reading(at, "b")]).unwrap();
        }
        let first = spool.read_after(0, 5).unwrap().unwrap();
        assert_eq!(first.readings.len(), 4);
        let next = spool.read_after(first.position, 1).unwrap().unwrap();
        assert_eq!(next.readings.len(), 2, "a batch larger than the wish comes whole");
    }
}
