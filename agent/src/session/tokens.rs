use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::Timestamp;
use protocol::control::PastSession;
use serde::Serialize;

use super::Form;

/// Sessions by their token, in memory only, on the monotonic clock.
pub struct Tokens {
    log: PathBuf,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

/// What somebody who proved who he is does.
pub struct Session {
    pub key_id: String,
    /// The time that HQ has signed.
    pub signed_at: Timestamp,
    opened: Instant,
    record: Mutex<Record>,
}

/// One line of `logs/sessions.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub time: Timestamp,
    pub address: String,
    pub key: String,
    pub authentication: Form,
    pub records: u64,
    pub bytes: u64,
    pub cut: Option<Timestamp>,
    pub version_delivered: Option<String>,
    pub verdict: Option<String>,
    pub duration_seconds: f64,
    pub ended: String,
    #[serde(skip)]
    last_used: Instant,
    #[serde(skip)]
    busy: u32,
    /// A session that went on after its line was written has another one, of what came after.
    continued: bool,
    #[serde(skip)]
    written: bool,
}

const LIVES: Duration = Duration::from_secs(5 * 60);
/// A session that has done its work is written down after so much quiet; its token lives on.
const QUIET: Duration = Duration::from_secs(3);
/// Of a right signature there can be many; the oldest make room.
const MOST: usize = 10_000;
const LARGEST_LOG: u64 = 4 << 20;
/// About.
const LONGEST_LINE: u64 = 512;

impl Tokens {
    pub fn new(log: PathBuf) -> Self {
        Self { log, sessions: Mutex::default() }
    }

    pub fn open(&self, address: SocketAddr, key_id: &str, signed_at: Timestamp, authentication: Form) -> String {
        let now = Instant::now();
        let record = Record {
            time: Timestamp::now(),
            address: address.ip().to_canonical().to_string(),
            key: key_id.to_owned(),
            authentication,
            records: 0,
            bytes: 0,
            cut: None,
            version_delivered: None,
            verdict: None,
            duration_seconds: 0.0,
            ended: "nothing asked".to_owned(),
            last_used: now,
            busy: 0,
            continued: false,
            written: false,
        };
        let token = uuid::Uuid::new_v4().to_string();
        let session =
            Arc::new(Session { key_id: key_id.to_owned(), signed_at, opened: now, record: Mutex::new(record) });
        let mut sessions = self.lock();
        if sessions.len() >= MOST
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, session)| session.opened).map(|(token, _)| token.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(token.clone(), session);
        token
    }

    pub fn find(&self, token: &str) -> Option<Arc<Session>> {
        let session = self.lock().get(token).cloned()?;
        (session.opened.elapsed() <= LIVES).then_some(session)
    }

    /// Writes down what is over (or everything, at a stop) and forgets what has run out.
    pub fn end(&self, all: bool) {
        let mut over = Vec::new();
        self.lock().retain(|_, session| {
            let mut record = session.lock();
            let run_out = session.opened.elapsed() > LIVES;
            let quiet = record.busy == 0 && record.last_used.elapsed() > QUIET;
            let did_something = record.ended != "nothing asked";
            if !record.written && (all || quiet && (did_something || run_out)) {
                record.written = true;
                record.duration_seconds = (record.last_used - session.opened).as_secs_f64();
                over.push(record.clone());
            }
            !(run_out && record.busy == 0)
        });
        for record in over {
            if let Err(error) = self.write(&record) {
                tracing::warn!(file = %self.log.display(), %error, "a session could not be written down");
            }
        }
    }

    fn write(&self, record: &Record) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if std::fs::metadata(&self.log).is_ok_and(|metadata| metadata.len() > LARGEST_LOG) {
            // In place: the folder is not the agent's to write.
            let newest = newest_lines(&self.log, LARGEST_LOG / 2)?;
            std::fs::write(&self.log, newest)?;
        }
        // One write a line, so that a reader never sees half of one that is followed by another.
        OpenOptions::new().create(true).append(true).open(&self.log)?.write_all(&line)
    }

    /// The newest first, at most so many.
    pub fn past(&self, at_most: usize) -> Vec<PastSession> {
        let newest = newest_lines(&self.log, at_most as u64 * LONGEST_LINE).unwrap_or_default();
        let lines = newest.split(|byte| *byte == b'\n').rev();
        lines.filter_map(|line| serde_json::from_slice(line).ok()).take(at_most).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a file, from a line's beginning on.
fn newest_lines(path: &Path, at_most: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(at_most);
    file.seek(SeekFrom::Start(skipped))?;
    let mut lines = Vec::new();
    file.take(at_most).read_to_end(&mut lines)?;
    if skipped > 0 {
        let first = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1);
        lines.drain(..first);
    }
    Ok(lines)
}

impl Session {
    /// Something goes on in this session until the guard is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.note(|record| record.busy += 1);
        Busy(self.clone())
    }

    pub fn note(&self, change: impl FnOnce(&mut Record)) {
        let mut record = self.lock();
        record.last_used = Instant::now();
        if record.written {
            let Record { time: _, records, bytes, cut, version_delivered, verdict, continued, written, .. } =
                &mut *record;
            (*records, *bytes, *continued, *written) = (0, 0, true, false);
            (*cut, *version_delivered, *verdict) = (None, None, None);
        }
        change(&mut record);
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Busy(Arc<Session>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.note(|record| record.busy -= 1);
    }
}
