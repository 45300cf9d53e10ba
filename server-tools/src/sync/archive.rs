//! How archives lie on disk, in `<data-dir>/<client-id>/`:
//!
//! | file | what |
//! | --- | --- |
//! | `<period end>.gz` | a whole archive; never changed again |
//! | `<period end>.json` | its record: period, count, SHA-256, cursor, epochs |
//! | `<period end>.gz.part`, `pull.json` | a pull under way: what came, and which export it belongs to |
//! | `state.json` | the cursor that the next pull starts from |
//! | `agent.fingerprint` | the agent's key |
//!
//! The end of a pull is: part synced, renamed to `.gz`, folder synced, record written, cursor moved, `pull.json` removed.
//! Killed anywhere in between, the next start finds `pull.json` and does the rest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use durable::{Access, Lock, LockError};
use protocol::export::{EpochRange, Gap, MemberReader, Whole, is_cursor};
use protocol::signing::hex;
use protocol::{Failure, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use updater::package::names;

/// What a plant is asked for of which nothing is there yet.
pub const EVERYTHING: &str = "since=1970-01-01T00:00:00Z";
/// Compressed bytes that may come before the first reading and with each: more is no export. A member of ours has some
/// hundred kilobytes, and the longest lines compress to less than this.
const MOST_BYTES_BEFORE: u64 = 16 << 20;
const MOST_BYTES_OF_A_READING: u64 = 64 << 10;

/// A plant's folder, held by one client at a time.
pub struct Folder {
    path: PathBuf,
    _lock: Option<Lock>,
}

/// `pull.json`, and most of an archive's record: which export this is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    pub client_id: String,
    /// End of the export before this one; `None` at the first, or where `--since` was given.
    pub period_start: Option<Timestamp>,
    #[serde(with = "micros")]
    pub period_end: Timestamp,
    pub record_count: u64,
    /// The place behind it: the cut that it covers.
    pub next_cursor: String,
    /// Whether it began at an exact place, or at a time with overlap.
    pub cursor_exact: bool,
    pub epochs: Vec<EpochRange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The query that it was asked for with.
    pub request: String,
    pub agent_id: String,
}

/// A record: the export and the file that holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(flatten)]
    pub export: Export,
    pub bytes: u64,
    pub sha256: String,
    pub stored_at: Timestamp,
}

/// `state.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub cursor: String,
    #[serde(with = "micros")]
    pub period_end: Timestamp,
}

/// What a pull brought.
#[derive(Clone, Debug, Serialize)]
pub struct Pulled {
    /// `None` if the plant had nothing new.
    pub archive: Option<PathBuf>,
    #[serde(flatten)]
    pub record: Record,
}

/// The archive being written.
pub struct Part {
    file: File,
    path: PathBuf,
    pub export: Export,
    members: MemberReader,
    hash: Sha256,
    /// Bytes, with what came at an earlier start.
    received: u64,
}

/// A client id names a folder.
pub fn check_client_id(client_id: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match client_id.is_empty() || client_id.len() > 64 || client_id.starts_with('.') || !client_id.chars().all(plain) {
        // Windows would take it for a device, or for the folder of another one.
        false => names::check(client_id).map_err(|refusal| refusal.detail),
        true => {
            Err(format!("`{client_id}` must be 1 to 64 letters, digits, `-`, `_` or `.`, and not begin with a dot"))
        }
    }
}

/// The name of the folder, as the file system tells folders apart.
pub fn folder_of(client_id: &str) -> String {
    if cfg!(windows) { client_id.to_lowercase() } else { client_id.to_owned() }
}

impl Folder {
    pub fn open(data_dir: &Path, client_id: &str) -> Result<Self, Failure> {
        let Self { path, .. } = Self::look_into(data_dir, client_id)?;
        let lock = Lock::take(&path.join("lock")).map_err(|error| match error {
            LockError::Held(_) => Failure::try_later(format!("another sync_client is pulling into {}", path.display())),
            LockError::File(error) => error.into(),
        })?;
        Ok(Self { path, _lock: Some(lock) })
    }

    /// Without keeping others out: to know the agent by its key, and to store nothing but that.
    pub fn look_into(data_dir: &Path, client_id: &str) -> Result<Self, Failure> {
        check_client_id(client_id).map_err(|what| Failure::usage(format!("--client-id {what}")))?;
        let path = data_dir.join(client_id);
        std::fs::create_dir_all(&path).map_err(|error| durable::name_error("create", &path, error))?;
        Ok(Self { path, _lock: None })
    }

    pub fn fingerprint_file(&self) -> PathBuf {
        self.path.join("agent.fingerprint")
    }

    pub fn fingerprint(&self) -> Result<Option<String>, Failure> {
        let file = self.fingerprint_file();
        match std::fs::read_to_string(&file) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(durable::name_error("read", &file, error).into()),
        }
    }

    pub fn remember_fingerprint(&self, fingerprint: &str) -> Result<(), Failure> {
        Ok(durable::replace(&self.fingerprint_file(), format!("{fingerprint}\n").as_bytes(), Access::Shared)?)
    }

    /// Where the last pull ended. If that is lost, the newest archive's record still says it.
    pub fn state(&self) -> Result<Option<State>, Failure> {
        let state = read_json::<State>(&self.state_file()).ok().flatten();
        if let Some(state) = state.filter(|state| is_cursor(&state.cursor)) {
            return Ok(Some(state));
        }
        let mut records = Vec::new();
        for archive in self.files_ending("gz")? {
            records.extend(read_record(&archive)?);
        }
        records.retain(|record| record.export.is_of_the_chain());
        let newest = records.into_iter().max_by_key(|record| record.export.period_end);
        Ok(newest.map(|Record { export, .. }| State { cursor: export.next_cursor, period_end: export.period_end }))
    }

    /// Bytes of a pull under way, for judging whether there is progress.
    pub fn received(&self) -> u64 {
        let export: Option<Export> = read_json(&self.pull_file()).ok().flatten();
        export.and_then(|export| std::fs::metadata(self.part_file(&export)).ok()).map_or(0, |metadata| metadata.len())
    }

    /// What an earlier pull left: checked member by member, and cut behind the last whole one.
    pub fn unfinished(&self) -> Result<Option<Part>, Failure> {
        let export = read_json::<Export>(&self.pull_file()).ok().flatten();
        let Some(export) = export.filter(|export| is_cursor(&export.next_cursor)) else {
            // Without it nobody knows what a part belongs to.
            for part in self.files_ending("part")? {
                durable::remove(&part)?;
            }
            self.forget_pull()?;
            return Ok(None);
        };
        let path = self.part_file(&export);
        if !path.exists() && self.archive_file(&export).exists() {
            durable::rename(&self.archive_file(&export), &path)?;
        }
        let named = |error| durable::name_error("read", &path, error);
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget_pull()?;
                return Ok(None);
            }
            opened => opened.map_err(named)?,
        };
        let mut members = MemberReader::new(Whole::default());
        let mut bytes = vec![0; 256 << 10];
        loop {
            let count = file.read(&mut bytes).map_err(named)?;
            // What is broken is asked for again.
            if count == 0 || members.read(&bytes[..count], |_| ()).is_err() {
                break;
            }
        }
        let whole = members.whole().clone();
        file.set_len(whole.bytes).map_err(named)?;
        file.seek(SeekFrom::Start(0)).map_err(named)?;
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut HashWriter(&mut hash)).map_err(named)?;
        let received = whole.bytes;
        Ok(Some(Part { file, path, export, members: MemberReader::new(whole), hash, received }))
    }

    /// Begins an archive; `pull.json` is on disk before its first byte.
    pub fn begin(&self, export: Export) -> Result<Part, Failure> {
        let archive = self.archive_file(&export);
        if archive.exists() {
            return Err(Failure::integrity(format!(
                "the agent gives an export the end {}, which {} has already; nothing was stored over it",
                export.period_end.with_micros(),
                archive.display()
            )));
        }
        let path = self.part_file(&export);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(|error| durable::name_error("write", &path, error))?;
        write_json(&self.pull_file(), &export)?;
        Ok(Part { file, path, export, members: MemberReader::new(Whole::default()), hash: Sha256::new(), received: 0 })
    }

    /// Gives up what came of a pull, which is then asked for anew.
    pub fn discard(&self, part: Part) -> Result<(), Failure> {
        durable::remove(&part.path)?;
        self.forget_pull()
    }

    /// Makes a complete part an archive.
    pub fn finish(&self, part: Part) -> Result<Pulled, Failure> {
        let Part { file, path, export, members, hash, .. } = part;
        let whole = members.whole().clone();
        file.sync_all().map_err(|error| durable::name_error("write", &path, error))?;
        drop(file);
        let record = Record { bytes: whole.bytes, sha256: hex(&hash.finalize()), stored_at: Timestamp::now(), export };
        let archive = self.archive_file(&record.export);
        let archive = if record.export.record_count > 0 || !record.export.gaps.is_empty() {
            durable::rename(&path, &archive)?;
            write_json(&archive.with_extension("json"), &record)?;
            Some(archive)
        } else {
            durable::remove(&path)?;
            None
        };
        if record.export.is_of_the_chain() {
            let state = State { cursor: record.export.next_cursor.clone(), period_end: record.export.period_end };
            write_json(&self.state_file(), &state)?;
        }
        self.forget_pull()?;
        Ok(Pulled { archive, record })
    }

    fn files_ending(&self, ending: &str) -> Result<Vec<PathBuf>, Failure> {
        let named = |error| durable::name_error("read", &self.path, error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(named)? {
            let path = entry.map_err(named)?.path();
            if path.extension().is_some_and(|other| other == ending) {
                files.push(path);
            }
        }
        Ok(files)
    }

    fn state_file(&self) -> PathBuf {
        self.path.join("state.json")
    }

    fn forget_pull(&self) -> Result<(), Failure> {
        Ok(durable::remove(&self.pull_file())?)
    }

    fn pull_file(&self) -> PathBuf {
        self.path.join("pull.json")
    }

    fn archive_file(&self, export: &Export) -> PathBuf {
        self.path.join(format!("{}.gz", export.period_end.file_name()))
    }

    fn part_file(&self, export: &Export) -> PathBuf {
        self.path.join(format!("{}.gz.part", export.period_end.file_name()))
    }
}

impl Export {
    /// A pull of one's own choice of time is not, and leaves the chain of pulls where it was: between the chain's end and
    /// this one's start there may be readings that nobody has pulled.
    fn is_of_the_chain(&self) -> bool {
        !self.request.starts_with("since=") || self.request == EVERYTHING
    }
}

impl Part {
    /// Takes what came next.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.members
            .read(bytes, |_| ())
            .map_err(|error| Failure::integrity(format!("{error}; it is asked for anew at the next pull")))?;
        self.received += bytes.len() as u64;
        let lines = self.members.whole().lines;
        let most = MOST_BYTES_BEFORE.saturating_add(lines.saturating_mul(MOST_BYTES_OF_A_READING));
        if lines > self.export.record_count || self.received > most {
            return Err(Failure::integrity(format!(
                "the agent sends more than the {} readings that it has promised; nothing of it is kept",
                self.export.record_count
            )));
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|error| durable::name_error("write", &self.path, error).into())
    }

    /// What came whole.
    pub fn whole(&self) -> &Whole {
        self.members.whole()
    }

    pub fn is_complete(&self) -> bool {
        self.members.is_at_member_end()
            && self.whole().bytes > 0
            && self.whole().lines == self.export.record_count
            && self.whole().cursor.as_deref() == Some(&self.export.next_cursor)
    }
}

/// An archive's record.
pub fn read_record(archive: &Path) -> Result<Option<Record>, Failure> {
    read_json(&archive.with_extension("json"))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(durable::name_error("read", path, error).into()),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Failure::integrity(format!("{} is damaged ({error}); move it away and pull again", path.display()))
    })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("records serialise");
    bytes.push(b'\n');
    Ok(durable::replace(path, &bytes, Access::Shared)?)
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Period ends keep their six digits, as the agent writes them.
mod micros {
    use protocol::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.with_micros())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use protocol::export::write_member;

    use super::*;

    fn export(end: &str, count: u64, request: &str) -> Export {
        Export {
            client_id: "acme".to_owned(),
            period_start: None,
            period_end: Timestamp::parse(end).unwrap(),
            record_count: count,
            next_cursor: "1.0123456789abcdef0123456789abcdef.17.-".to_owned(),
            cursor_exact: true,
            epochs: Vec::new(),
            gaps: Vec::new(),
            request: request.to_owned(),
            agent_id: String::new(),
        }
    }

    fn store(folder: &Folder, export: Export) -> Pulled {
        let lines: String = (0..export.record_count).map(|seq| format!("{{\"seq\":{seq}}}\n")).collect();
        let member = write_member(lines.as_bytes(), Some(&export.next_cursor));
        let mut part = folder.begin(export).unwrap();
        part.write(&member).unwrap();
        assert!(part.is_complete());
        folder.finish(part).unwrap()
    }

    #[test]
    fn a_client_id_is_the_name_of_a_folder_on_every_system() {
        for good in ["acme-1", "Acme_2.north", "console"] {
            assert_eq!(check_client_id(good), Ok(()), "{good}");
        }
        for bad in ["", ".acme", "acme/1", r"acme\1", "acme.", "CON", "nul.txt", "COM1", "acme:1"] {
            assert!(check_client_id(bad).is_err(), "{bad}");
        }
    }

    fn opened() -> (tempfile::TempDir, Folder) {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::open(data.path(), "acme").unwrap();
        (data, folder)
    }

    #[test]
    fn a_pull_of_ones_own_choice_of_time_is_never_where_the_chain_goes_on() {
        let (_data, folder) = opened();
        store(&folder, export("2026-02-22T10:00:00Z", 3, "since=2026-02-22T09:00:00.000000Z"));
        assert_eq!(folder.state().unwrap(), None, "the first ordinary pull asks for everything");
        store(&folder, export("2026-02-22T11:00:00Z", 3, EVERYTHING));
        store(&folder, export("2026-02-22T12:00:00Z", 3, "cursor=1.x.3.-"));
        store(&folder, export("2026-02-22T13:00:00Z", 3, "since=2026-02-22T12:30:00.000000Z"));
        let noon = Timestamp::parse("2026-02-22T12:00:00Z").unwrap();
        assert_eq!(folder.state().unwrap().unwrap().period_end, noon);
        std::fs::remove_file(folder.state_file()).unwrap();
        assert_eq!(folder.state().unwrap().unwrap().period_end, noon, "from the records");
    }

    #[test]
    fn an_archive_is_never_stored_over() {
        let (_data, folder) = opened();
        let first = store(&folder, export("2026-02-22T10:00:00Z", 3, EVERYTHING));
        let before = std::fs::read(first.archive.as_ref().unwrap()).unwrap();
        let refused = folder.begin(export("2026-02-22T10:00:00Z", 1, "cursor=1.x.3.-")).err().unwrap();
        assert_eq!(refused.exit, protocol::Exit::Integrity);
        assert_eq!(std::fs::read(first.archive.unwrap()).unwrap(), before);
    }

    #[test]
    fn more_than_was_promised_is_not_taken() {
        let (_data, folder) = opened();
        let mut part = folder.begin(export("2026-02-22T10:00:00Z", 2, EVERYTHING)).unwrap();
        let two = write_member(b"{\"seq\":1}\n{\"seq\":2}\n", Some("x"));
        part.write(&two).unwrap();
        assert_eq!(part.write(&two).unwrap_err().exit, protocol::Exit::Integrity);
        // Members without readings, without end.
        let mut part = folder.begin(export("2026-02-22T11:00:00Z", 2, EVERYTHING)).unwrap();
        let empty = write_member(b"", None).repeat(1000);
        let taken = (0..2_000_000).take_while(|_| part.write(&empty).is_ok()).count() * empty.len();
        assert!(taken as u64 <= MOST_BYTES_BEFORE, "{taken}");
    }
}
