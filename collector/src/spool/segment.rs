use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use protocol::Timestamp;
use protocol::export::Gap;
use readings::Reading;

use super::record::{self, Dictionary, Known};

/// One file of the spool. Tags are written out where they first occur in it.
pub struct Segment {
    path: PathBuf,
    file: Option<File>,
    /// Up to here it is whole.
    bytes: u64,
    dictionary: Dictionary,
    entries: Vec<Entry>,
    last_position: Option<u64>,
}

/// Where a record with readings or gaps lies.
#[derive(Clone, Debug)]
pub struct Entry {
    pub position: u64,
    pub readings: usize,
    /// First and last time of its readings.
    pub times: Option<(Timestamp, Timestamp)>,
    pub gaps: Vec<Gap>,
    offset: u64,
}

/// Format and its version; a newer one is left alone and said so.
const HEADER: &[u8; 8] = b"PLSPOOL\x01";
const LENGTH_AND_CHECKSUM: u64 = 8;
/// The reason of a gap.
pub const DAMAGED: &str = "spool_damaged";

impl Segment {
    /// An empty file for records from `position` on, there after a power cut.
    pub fn create(folder: &Path, position: u64) -> io::Result<Self> {
        let path = folder.join(format!("{position:020}.spool"));
        let named = |error| durable::name_error("write", &path, error);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).map_err(named)?;
        file.write_all(HEADER).map_err(named)?;
        durable::sync_folder(folder)?;
        let bytes = HEADER.len() as u64;
        Ok(Self {
            path,
            file: Some(file),
            bytes,
            dictionary: Dictionary::default(),
            entries: Vec::new(),
            last_position: None,
        })
    }

    /// Reads the whole records of a file that an earlier process left. What they say of the database goes to `known`;
    /// records that were whole once go to `damaged`, each as a gap of at least one reading.
    pub fn read(path: &Path, known: &mut Option<Known>, damaged: &mut Vec<Gap>) -> io::Result<Self> {
        let mut content = Vec::new();
        File::open(path)
            .and_then(|mut file| file.read_to_end(&mut content))
            .map_err(|error| durable::name_error("read", path, error))?;
        let mut segment = Self {
            path: path.to_owned(),
            file: None,
            bytes: 0,
            dictionary: Dictionary::default(),
            entries: Vec::new(),
            last_position: None,
        };
        if content.len() >= HEADER.len() && &content[..HEADER.len()] != HEADER {
            let what =
                "is a spool segment of another format; an earlier version of the collector reads it, or move it away";
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} {what}", path.display())));
        }
        let (mut offset, mut whole) = (HEADER.len().min(content.len()), 0);
        // The newest time before a damaged record.
        let mut between: Option<Option<Timestamp>> = None;
        while offset < content.len() {
            let decoded = whole_record(&content[offset..]).and_then(|payload| {
                let record = record::decode(payload, &mut segment.dictionary).ok()?;
                Some((record, LENGTH_AND_CHECKSUM as usize + payload.len()))
            });
            if let Some((record, length)) = decoded {
                *known = record.known.or(known.take());
                if let Some(open) = between.take() {
                    damaged.push(gap_between(open, record.readings.iter().map(|reading| reading.time).min()));
                }
                segment.add(record.position, record.gaps, &record.readings, offset as u64);
                offset += length;
                whole = offset;
                continue;
            }
            // At the end of a file it was torn and never accepted; before another record, accepted and damaged since.
            match next_record(&content, offset + 1, segment.last_position) {
                Some(next) => {
                    tracing::error!(segment = %path.display(), bytes = next - offset, "a record was damaged on disk and is left out");
                    between = Some(segment.entries.last().and_then(|entry| entry.times).map(|(_, newest)| newest));
                    offset = next;
                }
                None => {
                    let bytes = content.len() - offset;
                    tracing::warn!(segment = %path.display(), bytes, "a torn record at the end was never accepted and is left out");
                    break;
                }
            }
        }
        segment.bytes = whole.max(HEADER.len().min(content.len())) as u64;
        Ok(segment)
    }

    /// Appends a record and syncs it. After an error the file may end in half a record.
    pub fn append(
        &mut self,
        position: u64,
        known: Option<&Known>,
        gaps: &[Gap],
        readings: &[Reading],
    ) -> io::Result<u64> {
        let payload = record::encode(position, known, gaps, readings, &mut self.dictionary);
        let mut bytes = Vec::with_capacity(payload.len() + LENGTH_AND_CHECKSUM as usize);
        bytes.extend_from_slice(&u32::try_from(payload.len()).map_err(io::Error::other)?.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        bytes.extend_from_slice(&payload);
        let file =
            self.file.as_mut().ok_or_else(|| io::Error::other("an earlier process's segment is not written to"))?;
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        written.map_err(|error| {
            // Whole and unsynced it would count at the next start, although it was refused.
            let _ = file.set_len(self.bytes);
            durable::name_error("write", &self.path, error)
        })?;
        self.add(position, gaps.to_vec(), readings, self.bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }

    fn add(&mut self, position: u64, gaps: Vec<Gap>, readings: &[Reading], offset: u64) {
        self.last_position = Some(position);
        if !readings.is_empty() || !gaps.is_empty() {
            let times = || readings.iter().map(|reading| reading.time);
            let times = times().min().zip(times().max());
            self.entries.push(Entry { position, readings: readings.len(), times, gaps, offset });
        }
    }

    pub fn read_entry(&self, entry: &Entry, readings: &mut Vec<Reading>) -> io::Result<()> {
        let named = |error| durable::name_error("read", &self.path, error);
        let mut file = File::open(&self.path).map_err(named)?;
        file.seek(SeekFrom::Start(entry.offset)).map_err(named)?;
        let mut start = [0; LENGTH_AND_CHECKSUM as usize];
        file.read_exact(&mut start).map_err(named)?;
        let length = u64::from(u32::from_le_bytes([start[0], start[1], start[2], start[3]]));
        let mut record = start.to_vec();
        file.take(length).read_to_end(&mut record).map_err(named)?;
        let damaged = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is damaged at byte {}", self.path.display(), entry.offset),
            )
        };
        let payload = whole_record(&record).ok_or_else(damaged)?;
        readings.extend(record::decode_known(payload, &self.dictionary).map_err(|_| damaged())?);
        Ok(())
    }

    pub fn entries_after(&self, position: u64) -> impl Iterator<Item = &Entry> {
        let from = self.entries.partition_point(|entry| entry.position <= position);
        self.entries[from..].iter()
    }

    pub fn last_position(&self) -> Option<u64> {
        self.last_position
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn remove(&mut self) -> io::Result<()> {
        self.file = None;
        durable::remove(&self.path)
    }
}

/// Of a record of which nothing is known but its neighbours.
fn gap_between(before: Option<Timestamp>, behind: Option<Timestamp>) -> Gap {
    let from = before.or(behind).unwrap_or(Timestamp::EPOCH);
    Gap { from, to: behind.unwrap_or(from).max(from), readings: 1, reason: DAMAGED.to_owned() }
}

/// The payload of the record at the start of `bytes`, if all of it is there and its checksum is right.
fn whole_record(bytes: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (length, checksum) = (number(0)?, number(4)?);
    let payload = bytes.get(8..)?.get(..usize::try_from(length).ok()?)?;
    (crc32fast::hash(payload) == checksum).then_some(payload)
}

/// Where the next whole record begins, looking from `from` on. Positions only rise and are counted one by one, which tells
/// a record from bytes that look like one, before the checksum does.
fn next_record(content: &[u8], from: usize, last_position: Option<u64>) -> Option<usize> {
    const FARTHEST: u64 = 1 << 32;
    let last = last_position.unwrap_or(0);
    (from..content.len()).find(|at| {
        let position = content.get(at + 8..at + 16).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let plausible = |position: u64| position > last && (last == 0 || position - last < FARTHEST);
        position.is_some_and(plausible) && whole_record(&content[*at..]).is_some()
    })
}
