//! Bringing whatever was begun to its end: recovery after a kill or a power cut, commit and fallback. One thread; started
//! by the launcher while nothing of the plant runs (or, for a commit, beside the new version), killed whenever one likes.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use config::{Credentials, InstallRoot};
use durable::{Access, Lock, LockError};
use protocol::control::{Attempted, PendingState};
use protocol::{Failure, Timestamp};
use readings::migrate::{self, Target};
use readings::{Place, StoreError};

use crate::boot_record::{Attempt, BootRecord, BootRecordError, Database};
use crate::database::{self, ActiveDatabase, copy_for};
use crate::package::{Dialect, Limits, look, reopen};
use crate::recovery::{Action, Cause, decide};
use crate::situation::version_of;
use crate::transition::Step;
use crate::{pending, progress, trusted_keys, update_log};

/// An applying process whose supervisor is gone gives up by itself; it is waited for.
const LOCK_WITHIN: Duration = Duration::from_secs(60);

/// Follows the recovery table until something can run.
///
/// # Errors
/// With exit code 75 when the database that has to be asked does not answer: then collector and portal of the old version
/// run, and this is called again.
pub fn settle(root: &InstallRoot, cause: &Cause) -> Result<(), Failure> {
    let _lock = lock(root)?;
    let mut record = match read_durable(root) {
        Err(failure) => recover(root)?.ok_or(failure)?,
        Ok(record) => record,
    };
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
    if let Err(failure) = log_waiting(root, record) {
        eprintln!("{failure}");
    }
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

/// What a disk has done to the boot record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Both slots are lost, and what was last committed is certain.
    Mendable,
    /// Nothing is certain.
    Lost,
}

/// Whether the boot record is damaged; `None` also where there is none.
pub fn damage(root: &InstallRoot) -> Option<Damage> {
    let path = root.boot_record();
    match BootRecord::read(&path) {
        Err(BootRecordError::Damaged) if BootRecord::read_committed(&path).is_ok() => Some(Damage::Mendable),
        Err(BootRecordError::Damaged) => Some(Damage::Lost),
        _ => None,
    }
}

/// Both slots of the boot record are lost: the version that was last committed is put back, with its database. Of an
/// attempt that may have been under way nothing was stored yet but a migration, which is taken back.
fn recover(root: &InstallRoot) -> Result<Option<BootRecord>, Failure> {
    if damage(root) != Some(Damage::Mendable) {
        return Ok(None);
    }
    let certain = BootRecord::read_committed(&root.boot_record()).map_err(Failure::configuration)?;
    let version = version_of(&certain.current)?;
    let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
    // Of a database that was named since nothing is known, so nothing of it is taken back.
    let known = certain.database.as_ref().is_none_or(|database| database.is_of(&configured));
    let in_place = known && matches!(readings::place(&configured, root.path()), Ok(Place::Postgres));
    let step = Step::Restore {
        id: Attempt::new_id(),
        from_version: version.clone(),
        to_version: version,
        to: certain.current.clone(),
        database: certain.database.clone(),
        in_place,
    };
    let mut record = certain.after(step).map_err(Failure::failed)?;
    if let Some(attempt) = &mut record.attempt {
        let what = "the boot record was damaged on the disk; the version that was last committed runs, and an update \
                    that was under way is given up";
        attempt.error = Some(what.to_owned());
    }
    record.create_anew(&root.boot_record()).map_err(Failure::disk)?;
    Ok(Some(record))
}

/// # Errors
/// A boot record that cannot be gone by; nothing is guessed.
pub fn read(root: &InstallRoot) -> Result<BootRecord, Failure> {
    BootRecord::read(&root.boot_record()).map_err(|error| unreadable(root, &error))
}

/// As [`read`], to go on from there: it is durable before anything is built on it. The caller holds the [`lock`].
///
/// # Errors
/// As there.
pub fn read_durable(root: &InstallRoot) -> Result<BootRecord, Failure> {
    BootRecord::read_durable(&root.boot_record()).map_err(|error| unreadable(root, &error))
}

fn unreadable(root: &InstallRoot, error: &BootRecordError) -> Failure {
    let message = format!("{}: {error}", root.boot_record().display());
    match error {
        // The disk, or no file descriptors: not what is written there.
        BootRecordError::File(_) => Failure::disk(message),
        _ => Failure::configuration(message),
    }
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

/// Everything here may be done again after a kill; only then the phase moves on.
///
/// # Errors
/// Those of the disk; then it is tried again.
pub fn finish_commit(root: &InstallRoot, record: &BootRecord) -> Result<BootRecord, Failure> {
    let Some(attempt) = &record.attempt else { return write(root, record, Step::Finish { unlogged: None }) };
    let done = match &attempt.keys {
        Some(keys) => {
            trusted_keys::install(root, keys.version)?;
            format!("packages are signed by the keys of version {} from now on", keys.version)
        }
        None => {
            if attempt.restores
                && attempt.in_place
                && let Some(error) = undo(root, record, attempt)?
            {
                return write(root, record, Step::Fail { error });
            }
            shown(write_version(root, &attempt.to_version.to_string()))?;
            format!("version {} runs", attempt.to_version)
        }
    };
    let unlogged = log(root, log_line(attempt, attempt.error.clone()))?;
    shown(pending::clear(root, &attempt.manifest_sha256))?;
    progress::note_once(root, "done", 100, &done);
    let finish = Step::Finish { unlogged };
    let next = record.after(finish.clone()).map_err(Failure::failed)?;
    let superseded = if attempt.keys.is_some() { Vec::new() } else { superseded_databases(root, record, attempt) };
    // Where the boot record was lost nothing is thrown away; the next attempt clears up.
    if !record.is_recovery() {
        clean(root, &next, &superseded);
    }
    write(root, record, finish)
}

/// Takes back what the attempt did to the database and says what has become of it.
///
/// # Errors
/// With exit code 75 while PostgreSQL cannot be asked, or says no.
pub fn finish_fallback(root: &InstallRoot, record: &BootRecord) -> Result<BootRecord, Failure> {
    let Some(attempt) = &record.attempt else { return write(root, record, Step::Finish { unlogged: None }) };
    if attempt.in_place {
        take_back(root, record, attempt)?;
    }
    let error = attempt.error.clone().unwrap_or_default();
    let unlogged = log(root, log_line(attempt, Some(error.clone())))?;
    shown(pending::set_state(root, &attempt.manifest_sha256, PendingState::Failed, Some(error.clone())))?;
    progress::note_once(root, "failed", 0, &format!("{error}; version {} runs as before", attempt.from_version));
    let finish = Step::Finish { unlogged };
    let next = record.after(finish.clone()).map_err(Failure::failed)?;
    clean(root, &next, &copied_database(root, attempt));
    write(root, record, finish)
}

/// PostgreSQL: takes back what updates have made of the schema since the version that is put back. Where that is the
/// current one, because the boot record was lost, an attempt was under way if its package is still there, and no other.
///
/// Why it never will be, if so: it went well when it was rehearsed, and somebody has changed the database since.
fn undo(root: &InstallRoot, record: &BootRecord, attempt: &Attempt) -> Result<Option<String>, Failure> {
    let later = |error: &dyn Display| {
        Failure::try_later(format!("the database cannot be taken back yet: {error}; this is tried again"))
    };
    let credentials = Credentials::read(&root.credentials_file()).map_err(Failure::from);
    let configured = credentials.and_then(Credentials::require_database_url).map_err(|failure| later(&failure))?;
    let target = match &attempt.database {
        Some(database) if !record.is_recovery() => Target::Schema(database.schema.clone()),
        _ => {
            let package = File::open(root.applied_package()).ok().and_then(|file| look(file, &Limits::DEFAULT).ok());
            let Some(package) = package else { return Ok(None) };
            Target::Without(package.manifest.migrations.into_iter().map(|migration| migration.name).collect())
        }
    };
    match migrate::undo(&configured, &target, false) {
        Ok(names) => tell_taken_back(&names),
        Err(error @ (StoreError::Unreachable(_) | StoreError::Disk(_))) => return Err(later(&error)),
        Err(error) => return Ok(Some(format!("the database cannot be taken back: {error}"))),
    }
    Ok(None)
}

fn tell_taken_back(names: &[String]) {
    if !names.is_empty() {
        eprintln!("the database was taken back: {}", names.join(", "));
    }
}

/// PostgreSQL: asks whether the attempt's migration is there, and takes it back in one transaction if it is. Whatever it
/// answers but that, it is asked again: a login that is refused now, a database that is being restored, a full disk.
fn take_back(root: &InstallRoot, record: &BootRecord, attempt: &Attempt) -> Result<(), Failure> {
    let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
    let active = ActiveDatabase::named(&configured, record.database.as_ref());
    let migrations = || {
        let path = root.applied_package();
        let file = File::open(&path).map_err(|error| durable::name_error("read", &path, error));
        let file = file.map_err(|error| StoreError::Disk(error.to_string()))?;
        let package = reopen(file, &attempt.manifest_sha256, &Limits::DEFAULT);
        let package = package.map_err(|refusal| StoreError::Disk(format!("{}: {refusal}", path.display())))?;
        Ok(package.migrations(Dialect::Postgres))
    };
    match migrate::down(&active.url, &attempt.id, migrations) {
        Ok(names) => {
            tell_taken_back(&names);
            Ok(())
        }
        Err(error) => Err(Failure::try_later(format!(
            "the update cannot be taken back yet: {error}; collector and portal run meanwhile, and this is tried again"
        ))),
    }
}

fn log_line(attempt: &Attempt, error: Option<String>) -> Attempted {
    Attempted {
        time: Timestamp::now(),
        from_version: attempt.from_version.to_string(),
        to_version: attempt.to_version.to_string(),
        status: if error.is_some() { "failed" } else { "ok" }.to_owned(),
        error,
        restored: attempt.restores,
        attempt: attempt.number,
        id: attempt.id.clone(),
    }
}

/// The line, if the disk has no room for it now: then the boot record keeps it.
fn log(root: &InstallRoot, line: Attempted) -> Result<Option<Attempted>, Failure> {
    match update_log::add(root, &line) {
        Err(error) if is_full(&error) => Ok(Some(line)),
        outcome => shown(outcome).map(|()| None),
    }
}

/// Writes the line of an attempt for which the disk had no room: the boot record keeps one, so the next attempt waits for it.
///
/// # Errors
/// If there is no room for it yet, or the disk fails.
pub fn log_waiting(root: &InstallRoot, record: BootRecord) -> Result<BootRecord, Failure> {
    let Some(line) = record.unlogged.clone().filter(|_| record.attempt.is_none()) else { return Ok(record) };
    match log(root, line)? {
        Some(_) => Err(Failure::disk("the disk has no room for a line of the log; free some space")),
        None => write(root, &record, Step::Logged),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn write_version(root: &InstallRoot, version: &str) -> io::Result<()> {
    durable::replace(&root.version_file(), format!("{version}\n").as_bytes(), Access::Shared)
}

/// `version.txt` follows the boot record, also where a full disk once kept it from doing so.
fn mirror_version(root: &InstallRoot, record: &BootRecord) {
    let Ok(version) = version_of(&record.current) else { return };
    let shown_there = fs::read_to_string(root.version_file()).unwrap_or_default();
    if shown_there.trim() != version.to_string()
        && let Err(error) = write_version(root, &version.to_string())
    {
        eprintln!("version.txt does not say what runs: {error}");
    }
}

/// What only shows an outcome does not keep it from being reached where the disk is full: that cannot prevent a fallback.
/// After any other error it is tried again.
fn shown(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if is_full(&error) => {
            eprintln!("the outcome of the update cannot be shown everywhere: {error}");
            Ok(())
        }
        outcome => outcome.map_err(|error| Failure::try_later(format!("an update cannot be settled yet: {error}"))),
    }
}

/// Removes what no version needs any more. Left over it would only take room, so nothing fails for it.
fn clean(root: &InstallRoot, next: &BootRecord, databases: &[PathBuf]) {
    let tell = |outcome: io::Result<()>| {
        if let Err(error) = outcome {
            eprintln!("something that is needed no more stays: {error}");
        }
    };
    tell(durable::remove(&root.applied_package()));
    let previous = next.previous.as_ref().map(|previous| previous.current.as_str());
    for entry in fs::read_dir(root.versions()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != next.current && Some(name.as_str()) != previous {
            tell(durable::remove_tree(&entry.path()));
        }
    }
    let strays = stray_copies(root, next);
    for file in databases.iter().chain(&strays).filter(|file| file.starts_with(root.path())) {
        database::files_of(file).iter().for_each(|file| tell(durable::remove(file)));
    }
}

/// SQLite: the database before the one before the new one, which nothing can lead back to any more.
fn superseded_databases(root: &InstallRoot, record: &BootRecord, attempt: &Attempt) -> Vec<PathBuf> {
    let place = |database: Option<&Database>| sqlite_place(root, database);
    let Some(before) = &record.previous else { return Vec::new() };
    let kept = [place(record.database.as_ref()), place(attempt.database.as_ref())];
    place(before.database.as_ref()).into_iter().filter(|path| !kept.contains(&Some(path.clone()))).collect()
}

/// SQLite: the copy that a failed attempt may have made.
fn copied_database(root: &InstallRoot, attempt: &Attempt) -> Vec<PathBuf> {
    sqlite_place(root, None).map(|original| copy_for(&original, attempt)).into_iter().collect()
}

/// SQLite: copies that no attempt came to own, because it was killed before the boot record knew of it.
fn stray_copies(root: &InstallRoot, next: &BootRecord) -> Vec<PathBuf> {
    let Some(configured) = Credentials::read(&root.credentials_file()).ok().and_then(|read| read.database_url) else {
        return Vec::new();
    };
    let previous = next.previous.as_ref().and_then(|previous| previous.database.as_ref());
    let known: Vec<&Database> = next.database.iter().chain(previous).collect();
    let Some(original) = sqlite_place(root, None) else { return Vec::new() };
    // A person has named another database since, or the same in other words: then nothing here is certain to be a stray.
    if known.iter().any(|database| !database.is_of(&configured)) {
        return Vec::new();
    }
    let owned: Vec<PathBuf> = known.iter().filter_map(|database| Some(root.resolve(database.file.as_ref()?))).collect();
    let copies = database::copies_of(&original);
    copies.into_iter().filter(|copy| !owned.contains(copy)).collect()
}

fn sqlite_place(root: &InstallRoot, database: Option<&Database>) -> Option<PathBuf> {
    let configured = Credentials::read(&root.credentials_file()).ok()?.database_url?;
    match readings::place(&ActiveDatabase::named(&configured, database).url, root.path()) {
        Ok(Place::Sqlite(path)) => Some(path),
        Ok(Place::Postgres) | Err(_) => None,
    }
}
