//! Bringing whatever was begun to its end: recovery after a kill or a power cut, commit and fallback. One thread; started
//! by the launcher while nothing of the plant runs (or, for a commit, beside the new version), killed whenever one likes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use config::{Credentials, InstallRoot};
use durable::{Access, Lock, LockError};
use protocol::control::{Attempted, PendingState};
use protocol::{Failure, Timestamp};
use readings::{Place, StoreError, migrate};

use crate::boot_record::{Attempt, BootRecord};
use crate::database::ActiveDatabase;
use crate::package::{Dialect, Limits, reopen};
use crate::patch::remove_tree;
use crate::recovery::{Action, Cause, decide};
use crate::situation::version_of;
use crate::transition::Step;
use crate::{pending, progress, update_log};

/// An applying process whose supervisor is gone gives up by itself; it is waited for.
const LOCK_WITHIN: Duration = Duration::from_secs(60);

/// Follows the recovery table until something can run.
///
/// # Errors
/// With exit code 75 when the database that has to be asked does not answer: then collector and portal of the old version
/// run, and this is called again.
pub fn settle(root: &InstallRoot, cause: &Cause) -> Result<(), Failure> {
    let _lock = lock(root)?;
    let mut record = read(root)?;
    loop {
        record = match decide(&record, cause) {
            Action::Run => break,
            Action::TakeAndRun(step) => {
                progress::note(root, "confirm", 95, "watching whether the new version is healthy");
                write(root, &record, step)?;
                break;
            }
            Action::Take(step) => write(root, &record, step)?,
            Action::FinishCommit => finish_commit(root, &record)?,
            Action::FinishFallback => finish_fallback(root, &record)?,
        };
    }
    mirror_version(root, &record);
    Ok(())
}

/// Whoever changes the boot record holds this.
///
/// # Errors
/// If somebody else does for too long.
pub fn lock(root: &InstallRoot) -> Result<Lock, Failure> {
    let deadline = Instant::now() + LOCK_WITHIN;
    loop {
        match Lock::take(&root.update_lock()) {
            Ok(lock) => return Ok(lock),
            Err(LockError::Held(_)) if Instant::now() < deadline => {}
            Err(LockError::Held(_)) => return Err(Failure::try_later("an update is being applied on this root")),
            Err(LockError::File(error)) => return Err(error.into()),
        }
    }
}

/// # Errors
/// A boot record that cannot be gone by; nothing is guessed.
pub fn read(root: &InstallRoot) -> Result<BootRecord, Failure> {
    BootRecord::read(&root.boot_record())
        .map_err(|error| Failure::configuration(format!("{}: {error}", root.boot_record().display())))
}

/// Takes a step, durably. The caller holds the [`lock`].
///
/// # Errors
/// A step that the phase does not allow, or those of the disk.
pub fn write(root: &InstallRoot, record: &BootRecord, step: Step) -> Result<BootRecord, Failure> {
    let next = record.after(step.clone()).map_err(|not_now| Failure::failed(format!("{step:?}: {not_now}")))?;
    next.write(&root.boot_record()).map_err(Failure::disk)?;
    Ok(next)
}

fn finish_commit(root: &InstallRoot, record: &BootRecord) -> Result<BootRecord, Failure> {
    let Some(attempt) = &record.attempt else { return write(root, record, Step::Finish) };
    shown(write_version(root, &attempt.to_version.to_string()));
    shown(update_log::add(root, &log_line(attempt, None)));
    shown(pending::clear(root));
    let committed = write(root, record, Step::Finish)?;
    progress::note(root, "done", 100, &format!("version {} runs", attempt.to_version));
    clean(root, &committed);
    Ok(committed)
}

/// Takes back what the attempt did to the database and says what has become of it.
///
/// # Errors
/// With exit code 75 while PostgreSQL cannot be asked.
pub fn finish_fallback(root: &InstallRoot, record: &BootRecord) -> Result<BootRecord, Failure> {
    let Some(attempt) = &record.attempt else { return write(root, record, Step::Finish) };
    if attempt.in_place {
        take_back(root, record, attempt)?;
    }
    let error = attempt.error.clone().unwrap_or_default();
    shown(update_log::add(root, &log_line(attempt, Some(error.clone()))));
    shown(pending::set_state(root, &attempt.manifest_sha256, PendingState::Failed, Some(error.clone())));
    let committed = write(root, record, Step::Finish)?;
    progress::note(root, "failed", 0, &format!("{error}; version {} runs as before", attempt.from_version));
    clean(root, &committed);
    Ok(committed)
}

/// PostgreSQL: asks whether the attempt's migration is there, and takes it back in one transaction if it is.
fn take_back(root: &InstallRoot, record: &BootRecord, attempt: &Attempt) -> Result<(), Failure> {
    let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
    let active = ActiveDatabase::named(&configured, record.database.as_ref());
    let path = root.applied_package();
    let file = File::open(&path).map_err(|error| durable::name_error("read", &path, error))?;
    let package = reopen(file, &attempt.manifest_sha256, &Limits::DEFAULT)
        .map_err(|refusal| Failure::integrity(format!("{}: {refusal}", path.display())))?;
    match migrate::down(&active.url, &package.migrations(Dialect::Postgres), &attempt.id) {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(names) => {
            eprintln!("the database was taken back: {}", names.join(", "));
            Ok(())
        }
        Err(error @ (StoreError::Unreachable(_) | StoreError::Disk(_))) => Err(Failure::try_later(format!(
            "whether the update has changed the database cannot be asked: {error}; \
             collector and portal run meanwhile, and this is tried again"
        ))),
        Err(error) => Err(error.into()),
    }
}

fn log_line(attempt: &Attempt, error: Option<String>) -> Attempted {
    Attempted {
        time: Timestamp::now(),
        from_version: attempt.from_version.to_string(),
        to_version: attempt.to_version.to_string(),
        status: if error.is_some() { "failed" } else { "ok" }.to_owned(),
        error,
        attempt: attempt.number,
    }
}

fn write_version(root: &InstallRoot, version: &str) -> io::Result<()> {
    durable::replace(&root.version_file(), format!("{version}\n").as_bytes(), Access::Shared)
}

/// `version.txt` follows the boot record, also where a full disk once kept it from doing so.
fn mirror_version(root: &InstallRoot, record: &BootRecord) {
    let Ok(version) = version_of(&record.current) else { return };
    let shown_there = fs::read_to_string(root.version_file()).unwrap_or_default();
    if shown_there.trim() != version.to_string() {
        shown(write_version(root, &version.to_string()));
    }
}

/// What only shows an outcome must not keep it from being reached: a full disk cannot prevent a fallback.
fn shown(written: io::Result<()>) {
    if let Err(error) = written {
        eprintln!("the outcome of the update cannot be shown everywhere: {error}");
    }
}

/// Removes what no version needs any more. Left over, it only takes room, until the next attempt is over.
fn clean(root: &InstallRoot, committed: &BootRecord) {
    shown(durable::remove(&root.applied_package()));
    let kept: Vec<&str> = [Some(&committed.current), committed.previous.as_ref().map(|previous| &previous.current)]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    for entry in fs::read_dir(root.versions()).into_iter().flatten().flatten() {
        if !kept.contains(&&*entry.file_name().to_string_lossy()) {
            shown(remove_tree(&entry.path()));
        }
    }
    for file in databases_to_remove(root, committed) {
        for path in ["", "-wal", "-shm", "-journal"].map(|ending| PathBuf::from(format!("{}{ending}", file.display())))
        {
            shown(durable::remove(&path));
        }
    }
}

/// SQLite: copies that updates have made, and the file that they were once made of, where neither the committed version
/// nor the one before it uses them.
fn databases_to_remove(root: &InstallRoot, committed: &BootRecord) -> Vec<PathBuf> {
    let configured = Credentials::read(&root.credentials_file()).ok().and_then(|read| read.database_url);
    let Some(configured) = configured else { return Vec::new() };
    let place = |database: Option<&crate::boot_record::Database>| match readings::place(
        &ActiveDatabase::named(&configured, database).url,
        root.path(),
    ) {
        Ok(Place::Sqlite(path)) => Some(path),
        _ => None,
    };
    let Some(original) = place(None) else { return Vec::new() };
    let mut kept = vec![place(committed.database.as_ref())];
    // Without a version before it there is none whose database would be known.
    kept.push(place(committed.previous.as_ref().and_then(|previous| previous.database.as_ref())));
    let copies = (1..=committed.attempts).map(|number| crate::database::copy_for(&original, number));
    let all = copies.chain([original.clone()]);
    all.filter(|path| path.is_file() && !kept.contains(&Some(path.clone())) && is_ours(path, root.path())).collect()
}

/// Only below the root: what lies elsewhere was put there by a person.
fn is_ours(path: &Path, root: &Path) -> bool {
    path.starts_with(root)
}
