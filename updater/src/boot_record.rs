//! `state/boot`: which version runs. The one write that switches.
//!
//! Two slots of [`SLOT_BYTES`], preallocated and overwritten in place, so that a full disk cannot prevent a switch. A slot
//! is `magic, generation u64, length u32, CRC-32 of all that, JSON`; the valid one of the higher generation counts. A
//! write goes to the other slot: cut at any byte it leaves the slot before it as it was.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What is decided. Written whole, or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootRecord {
    pub phase: Phase,
    /// Name of the version directory that runs.
    pub current: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// One version, and nothing under way.
    Committed,
}

impl Phase {
    /// The word in `watchdog status --json`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Committed => "committed",
        }
    }
}

/// Why there is no boot record to go by.
#[derive(Debug, thiserror::Error)]
pub enum BootRecordError {
    #[error("there is no boot record; `watchdog init` makes an install root")]
    Missing,
    #[error("both slots of the boot record are damaged")]
    Damaged,
    #[error("the boot record is of a newer version of Plantlink")]
    TooNew,
    #[error(transparent)]
    File(#[from] io::Error),
}

pub const SLOT_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"PLBOOT\0\x01";
const HEADER: usize = MAGIC.len() + 8 + 4 + 4;

impl BootRecord {
    /// # Errors
    /// [`BootRecordError`].
    pub fn read(path: &Path) -> Result<Self, BootRecordError> {
        newest(path).map(|(_, record)| record)
    }

    /// Makes the file with this record in it; one that is there is left alone.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(&self, path: &Path) -> io::Result<()> {
        let mut bytes = self.encode(1);
        bytes.resize(2 * SLOT_BYTES, 0);
        durable::create_new(path, &bytes, durable::Access::Shared)
    }

    /// The switch: overwrites the slot that does not count, durably.
    ///
    /// # Errors
    /// If there is no record to follow, or those of the file system.
    pub fn write(&self, path: &Path) -> Result<(), BootRecordError> {
        let (generation, _) = newest(path)?;
        let generation = generation + 1;
        let slot = if generation % 2 == 1 { 0 } else { SLOT_BYTES as u64 };
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(slot))?;
        file.write_all(&self.encode(generation))?;
        file.sync_all()?;
        Ok(())
    }

    fn encode(&self, generation: u64) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("plain strings serialise");
        assert!(json.len() <= SLOT_BYTES - HEADER, "a boot record names a few directories");
        let mut slot = MAGIC.to_vec();
        slot.extend_from_slice(&generation.to_le_bytes());
        slot.extend_from_slice(&(json.len() as u32).to_le_bytes());
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&slot);
        checksum.update(&json);
        slot.extend_from_slice(&checksum.finalize().to_le_bytes());
        slot.extend_from_slice(&json);
        slot.resize(SLOT_BYTES, 0);
        slot
    }
}

fn newest(path: &Path) -> Result<(u64, BootRecord), BootRecordError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BootRecordError::Missing),
        file => file?.take(2 * SLOT_BYTES as u64).read_to_end(&mut bytes)?,
    };
    let mut slots: Vec<(u64, &[u8])> = bytes.chunks(SLOT_BYTES).filter_map(valid).collect();
    slots.sort_by_key(|(generation, _)| *generation);
    let (generation, json) = slots.pop().ok_or(BootRecordError::Damaged)?;
    let record = serde_json::from_slice(json).map_err(|_| BootRecordError::TooNew)?;
    Ok((generation, record))
}

/// Generation and content of a slot whose checksum is right.
fn valid(slot: &[u8]) -> Option<(u64, &[u8])> {
    let header = slot.get(..HEADER).filter(|header| header.starts_with(MAGIC))?;
    let generation = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let length = u32::from_le_bytes(header[16..20].try_into().ok()?);
    let expected = u32::from_le_bytes(header[20..24].try_into().ok()?);
    let json = slot.get(HEADER..HEADER.checked_add(usize::try_from(length).ok()?)?)?;
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&header[..20]);
    checksum.update(json);
    (checksum.finalize() == expected).then_some((generation, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(current: &str) -> BootRecord {
        BootRecord { phase: Phase::Committed, current: current.to_owned() }
    }

    #[test]
    fn a_write_cut_at_any_byte_leaves_the_record_before_or_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot");
        record("1.0.0-aaaaaaaa").create(&path).unwrap();
        for (before, after) in [("1.0.0-aaaaaaaa", "1.1.0-bbbbbbbb"), ("1.1.0-bbbbbbbb", "1.2.0-cccccccc")] {
            let old = std::fs::read(&path).unwrap();
            record(after).write(&path).unwrap();
            let new = std::fs::read(&path).unwrap();
            assert_eq!((old.len(), new.len()), (2 * SLOT_BYTES, 2 * SLOT_BYTES), "never grows");
            for cut in 0..new.len() {
                let torn = [&new[..cut], &old[cut..]].concat();
                std::fs::write(&path, &torn).unwrap();
                let read = BootRecord::read(&path).unwrap();
                assert!([record(before), record(after)].contains(&read), "cut at {cut}");
            }
            std::fs::write(&path, &new).unwrap();
            assert_eq!(BootRecord::read(&path).unwrap(), record(after));
        }
    }

    #[test]
    fn nothing_is_guessed_from_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot");
        assert!(matches!(BootRecord::read(&path), Err(BootRecordError::Missing)));
        for garbage in [vec![], vec![0; 2 * SLOT_BYTES], vec![0xff; 3]] {
            std::fs::write(&path, garbage).unwrap();
            assert!(matches!(BootRecord::read(&path), Err(BootRecordError::Damaged)));
        }
        std::fs::remove_file(&path).unwrap();
        record("1.0.0-aaaaaaaa").create(&path).unwrap();
        assert_eq!(record("x").create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
