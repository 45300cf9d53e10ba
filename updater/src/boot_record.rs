//! `state/boot`: which version runs. The one write that switches.
//!
//! Two slots of [`SLOT_BYTES`], preallocated and overwritten in place, so that a full disk cannot prevent a switch. A slot
//! is `magic, generation u64, length u32, CRC-32 of all that, JSON`; the valid one of the higher generation counts. A
//! write goes to the other slot: cut at any byte it leaves the slot before it as it was.
//!
//! A record that says `committed` is first written to `state/boot.committed`, a file of the same form. Should a disk lose
//! both slots of `state/boot`, that names the version which is certain ([`BootRecord::read_committed`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use protocol::control::Attempted;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is decided. Written whole, or not at all; changed only by [`crate::transition`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    pub phase: Phase,
    /// Name of the version directory that is committed.
    pub current: String,
    /// The database of `current`, where an update has moved or migrated it.
    pub database: Option<Database>,
    /// The highest version ever committed here.
    pub floor: Version,
    /// What was committed before `current`.
    pub previous: Option<Previous>,
    /// Attempts begun here; only rises, and names what an attempt lays.
    pub attempts: u64,
    /// There unless the phase is [`Phase::Committed`].
    pub attempt: Option<Attempt>,
    /// An attempt whose line is not in the log yet, because the disk was full.
    #[serde(default)]
    pub unlogged: Option<Attempted>,
    /// Of the keys in `state/update_keys.json`; 0 before the first rotation, when the configured ones count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub keys_version: u64,
    /// The schema of the database before the first update that changed it here: what `database: None` stands for then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_schema: Option<String>,
    /// What a newer version has put down, for itself: the launcher, which no package changes, hands it on.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// One version, and nothing under way.
    Committed,
    /// Approved: verified, backed up, laid out. The old version runs and stores.
    Preparing,
    /// The database is being migrated. The old version runs and spools.
    Migrating,
    /// The new version runs and spools.
    Trial,
    /// The new version has proved itself; what shows it is being written.
    Committing,
    /// The new version is given up; its migration is being taken back.
    FallingBack,
}

impl Phase {
    /// The word in `watchdog status --json`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Preparing => "preparing",
            Self::Migrating => "migrating",
            Self::Trial => "trial",
            Self::Committing => "committing",
            Self::FallingBack => "falling_back",
        }
    }
}

/// Which database belongs to a version, where it is not simply the one that is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// SHA-256 of the `DATABASE_URL` that this stands for, hex. Under another one it means nothing.
    pub configured: String,
    /// SQLite: the file, relative to the root, that an update has made of the configured one.
    pub file: Option<String>,
    /// What an update has made of the schema.
    pub schema: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    pub current: String,
    pub database: Option<Database>,
}

/// An update under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counts attempts on this plant PC.
    pub number: u64,
    /// Unlike the number, never the same on two plant PCs, or on one that was laid out anew.
    pub id: String,
    /// What the operator has approved.
    pub manifest_sha256: String,
    pub from_version: Version,
    pub to_version: Version,
    /// The new version directory, once it is whole.
    pub to: Option<String>,
    /// The new version's database.
    pub database: Option<Database>,
    /// PostgreSQL has been, or may have been, migrated.
    pub in_place: bool,
    /// Schema of the database before it was migrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_before: Option<String>,
    pub trial: Trial,
    /// A version from before is put back: approved and over in one, the floor goes with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restores: bool,
    /// It changes no program, but whose signatures count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyChange>,
    /// Why it is given up, for people.
    pub error: Option<String>,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Attempt {
    /// What no other attempt is called, here or on another plant PC.
    pub fn new_id() -> String {
        format!("{:032x}", rand::random::<u128>())
    }
}

/// What a package of keys changes once it is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    pub version: u64,
    /// Never above the floor that was.
    pub floor: Option<Version>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How often the new version was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The machine's boot in which it was last started.
    pub boot: Option<String>,
    pub starts: u32,
    /// Starts again in one and the same boot of the machine: then it was not the mains.
    pub restarts: u32,
}

/// Why there is no boot record to go by.
#[derive(Debug, thiserror::Error)]
pub enum BootRecordError {
    #[error("there is no boot record; `watchdog init` makes an install root")]
    Missing,
    #[error(
        "both slots of the boot record are damaged, so it is not known which version and which database belong together; \
         nothing is started by guess. Keep the root as it is, stop the watchdog, and put a version back with \
         `watchdog restore --root DIR`, which lists the backups that there are"
    )]
    Damaged,
    #[error("the boot record is of a newer version of Plantlink")]
    TooNew,
    #[error("it does not fit: paths and names in it are too long")]
    TooLong,
    #[error(transparent)]
    File(#[from] io::Error),
}

pub const SLOT_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"PLBOOT\0\x01";
const HEADER: usize = MAGIC.len() + 8 + 4 + 4;

impl BootRecord {
    /// Of a root that is laid out with a version.
    pub fn first(current: String, version: Version) -> Self {
        Self {
            phase: Phase::Committed,
            current,
            database: None,
            floor: version,
            previous: None,
            attempts: 0,
            attempt: None,
            unlogged: None,
            keys_version: 0,
            first_schema: None,
            more: Map::new(),
        }
    }

    /// The version directory that runs in this phase.
    pub fn running(&self) -> &str {
        let new = self.attempt.as_ref().and_then(|attempt| attempt.to.as_deref());
        match self.phase {
            Phase::Trial | Phase::Committing => new.unwrap_or(&self.current),
            Phase::Committed | Phase::Preparing | Phase::Migrating | Phase::FallingBack => &self.current,
        }
    }

    /// The database of the version that runs.
    pub fn running_database(&self) -> Option<&Database> {
        match (self.phase, &self.attempt) {
            (Phase::Trial | Phase::Committing, Some(attempt)) => attempt.database.as_ref(),
            _ => self.database.as_ref(),
        }
    }

    /// Whether the attempt puts back what is committed already: both slots were lost, and an update may have been under way.
    pub fn is_recovery(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.restores && attempt.to.as_ref() == Some(&self.current))
    }

    /// # Errors
    /// [`BootRecordError`].
    pub fn read(path: &Path) -> Result<Self, BootRecordError> {
        newest(path).map(|(_, record)| record)
    }

    /// As [`BootRecord::read`], for whoever builds on what he reads: a process that was killed between writing a record and
    /// syncing it has left one that everybody reads and a power cut still takes back.
    ///
    /// # Errors
    /// [`BootRecordError`].
    pub fn read_durable(path: &Path) -> Result<Self, BootRecordError> {
        let record = Self::read(path)?;
        durable::flush(path)?;
        Ok(record)
    }

    /// Makes the file with this record in it; one that is there is left alone.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(&self, path: &Path) -> io::Result<()> {
        let mut bytes = self.encode(1).map_err(io::Error::other)?;
        bytes.resize(2 * SLOT_BYTES, 0);
        if !path.exists() {
            durable::replace(&committed(path), &bytes, durable::Access::Shared)?;
        }
        durable::create_new(path, &bytes, durable::Access::Shared)
    }

    /// What was last committed, where [`Self::read`] finds both slots damaged. An attempt that was under way is not in it.
    ///
    /// # Errors
    /// [`BootRecordError`].
    pub fn read_committed(path: &Path) -> Result<Self, BootRecordError> {
        newest(&committed(path)).map(|(_, record)| record)
    }

    /// Makes the file anew with this record in it, where what is there cannot be read.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create_anew(&self, path: &Path) -> Result<(), BootRecordError> {
        let generation = newest(&committed(path)).map_or(0, |(generation, _)| generation) + 1;
        let mut bytes = self.encode(generation)?;
        bytes.resize(2 * SLOT_BYTES, 0);
        Ok(durable::replace(path, &bytes, durable::Access::Shared)?)
    }

    /// The switch: overwrites the slot that does not count, durably.
    ///
    /// # Errors
    /// If there is no record to follow, or those of the file system.
    pub fn write(&self, path: &Path) -> Result<(), BootRecordError> {
        let (generation, _) = newest(path)?;
        // Nothing that was written here ever comes near the last one: then it is damage after all.
        let generation = Some(generation + 1).filter(|next| *next < u64::MAX).ok_or(BootRecordError::Damaged)?;
        let slot = self.encode(generation)?;
        if self.phase == Phase::Committed {
            // First: behind the switch it would be the older of the two for a moment.
            let certain = committed(path);
            if !certain.exists() {
                durable::replace(&certain, &[0; 2 * SLOT_BYTES], durable::Access::Shared)?;
            }
            // Both slots, one after the other: neither ever names an older version than the other by more than this write.
            overwrite(&certain, generation, &slot)?;
            overwrite(&certain, generation + 1, &slot)?;
        }
        overwrite(path, generation, &slot)
    }

    fn encode(&self, generation: u64) -> Result<Vec<u8>, BootRecordError> {
        let json = serde_json::to_vec(self).expect("plain strings serialise");
        if json.len() > SLOT_BYTES - HEADER {
            return Err(BootRecordError::TooLong);
        }
        let mut slot = MAGIC.to_vec();
        slot.extend_from_slice(&generation.to_le_bytes());
        slot.extend_from_slice(&(json.len() as u32).to_le_bytes());
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&slot);
        checksum.update(&json);
        slot.extend_from_slice(&checksum.finalize().to_le_bytes());
        slot.extend_from_slice(&json);
        slot.resize(SLOT_BYTES, 0);
        Ok(slot)
    }
}

/// Beside the boot record.
fn committed(path: &Path) -> PathBuf {
    path.with_extension("committed")
}

/// In place, so that no full disk prevents it.
fn overwrite(path: &Path, generation: u64, slot: &[u8]) -> Result<(), BootRecordError> {
    let place = if generation % 2 == 1 { 0 } else { SLOT_BYTES as u64 };
    let mut file = durable::patiently(|| OpenOptions::new().write(true).open(path))?;
    file.seek(SeekFrom::Start(place))?;
    file.write_all(slot)?;
    file.sync_all()?;
    Ok(())
}

fn newest(path: &Path) -> Result<(u64, BootRecord), BootRecordError> {
    let mut bytes = Vec::new();
    match durable::patiently(|| File::open(path)) {
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
    // The last of all generations would leave no way to write another.
    let generation = Some(u64::from_le_bytes(header[8..16].try_into().ok()?)).filter(|number| *number < u64::MAX)?;
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
    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn record(current: &str) -> BootRecord {
        BootRecord::first(current.to_owned(), Version::new(1, 0, 0))
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
            for cut in (0..new.len()).step_by(5) {
                let torn = [&new[..cut], &old[cut..]].concat();
                std::fs::write(&path, &torn).unwrap();
                let read = BootRecord::read(&path).unwrap();
                assert!([record(before), record(after)].contains(&read), "cut at {cut}");
            }
            std::fs::write(&path, &new).unwrap();
            assert_eq!(BootRecord::read(&path).unwrap(), record(after));
        }
    }

    fn slot_of(generation: u64) -> usize {
        if generation % 2 == 1 { 0 } else { SLOT_BYTES }
    }

    /// What a damaged disk makes of it.
    fn spoil(bytes: &mut Vec<u8>, random: &mut SmallRng) {
        let slot = random.gen_range(0..2) * SLOT_BYTES;
        match random.gen_range(0..7) {
            0 => {
                for _ in 0..random.gen_range(1..5) {
                    let at = random.gen_range(0..bytes.len());
                    bytes[at] ^= 1 << random.gen_range(0..8);
                }
            }
            1 => bytes.truncate(random.gen_range(0..bytes.len())),
            2 => bytes.extend((0..random.gen_range(1..3 * SLOT_BYTES)).map(|_| random.r#gen::<u8>())),
            3 => random.fill(&mut bytes[slot..slot + SLOT_BYTES]),
            // A header that is all but right.
            4 => bytes[slot + 8..slot + 16]
                .copy_from_slice(&[u64::MAX, 0, random.r#gen()][random.gen_range(0..3)].to_le_bytes()),
            5 => bytes[slot + 16..slot + 20]
                .copy_from_slice(&[u32::MAX, 0, random.r#gen()][random.gen_range(0..3)].to_le_bytes()),
            _ => {
                let (one, other) = bytes.split_at_mut(SLOT_BYTES);
                one.swap_with_slice(&mut other[..SLOT_BYTES]);
            }
        }
    }

    #[test]
    fn whatever_a_disk_makes_of_it_a_record_that_was_written_is_read_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot");
        let (mut read_older, mut damaged) = (0, 0);
        for seed in 0..1000 {
            let random = &mut SmallRng::seed_from_u64(seed);
            let first = [1, random.gen_range(1..u64::MAX - 3), u64::MAX - 3][random.gen_range(0..3)];
            let mut bytes = vec![0; 2 * SLOT_BYTES];
            let written: Vec<BootRecord> = ["1.0.0-aaaaaaaa", "1.1.0-bbbbbbbb", "1.2.0-cccccccc"].map(record).to_vec();
            let mut place = |number: usize, survives: &mut dyn FnMut() -> bool| {
                let generation = first + number as u64;
                let slot = written[number].encode(generation).unwrap();
                for (sector, content) in slot.chunks(512).enumerate().filter(|_| survives()) {
                    let at = slot_of(generation) + sector * 512;
                    bytes[at..at + 512].copy_from_slice(content);
                }
            };
            place(0, &mut || true);
            place(1, &mut || true);
            place(2, &mut || random.r#gen());
            let spoilt = random.r#gen();
            if spoilt {
                spoil(&mut bytes, random);
            }
            std::fs::write(&path, &bytes).unwrap();
            let read = BootRecord::read(&path);
            match &read {
                Ok(read) if spoilt => assert!(written.contains(read), "seed {seed}: {read:?}"),
                // Torn, and nothing else: the one before is never lost.
                Ok(read) => assert!(written[1..].contains(read), "seed {seed}: {read:?}"),
                Err(BootRecordError::Damaged) => assert!(spoilt, "seed {seed}"),
                Err(error) => panic!("seed {seed}: {error}"),
            }
            read_older += u32::from(read.as_ref().is_ok_and(|read| *read == written[0]));
            damaged += u32::from(read.is_err());
            // It goes on from there, or is refused and changes nothing. Each waits for the disk, so not for all.
            if seed % 16 != 0 {
                continue;
            }
            let next = record("1.3.0-dddddddd");
            match next.write(&path) {
                Ok(()) => assert_eq!(BootRecord::read(&path).unwrap(), next, "seed {seed}"),
                Err(_) => assert_eq!(BootRecord::read(&path).ok(), read.ok(), "seed {seed}"),
            }
        }
        assert!(read_older > 0 && damaged > 0, "{read_older} {damaged}");
    }

    #[test]
    fn what_is_committed_is_known_where_both_slots_are_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot");
        record("1.0.0-aaaaaaaa").create(&path).unwrap();
        let mut trial = record("1.1.0-bbbbbbbb");
        for (current, phase) in [("1.1.0-bbbbbbbb", Phase::Committed), ("1.2.0-cccccccc", Phase::Trial)] {
            (trial.current, trial.phase) = (current.to_owned(), phase);
            trial.write(&path).unwrap();
        }
        std::fs::write(&path, vec![0; 2 * SLOT_BYTES]).unwrap();
        assert!(matches!(BootRecord::read(&path), Err(BootRecordError::Damaged)));
        let certain = BootRecord::read_committed(&path).unwrap();
        assert_eq!(certain, record("1.1.0-bbbbbbbb"), "a trial is not certain");
        certain.create_anew(&path).unwrap();
        record("1.3.0-dddddddd").write(&path).unwrap();
        assert_eq!(BootRecord::read(&path).unwrap(), BootRecord::read_committed(&path).unwrap());
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
        std::fs::write(&path, record("1.0.0-aaaaaaaa").encode(u64::MAX).unwrap()).unwrap();
        assert!(matches!(BootRecord::read(&path), Err(BootRecordError::Damaged)), "nothing could follow it");
        std::fs::remove_file(&path).unwrap();
        record("1.0.0-aaaaaaaa").create(&path).unwrap();
        assert_eq!(record("x").create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
