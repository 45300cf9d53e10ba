//! `watchdog restore`: puts back a version that was backed up before an update, with the database that belongs to it and
//! every reading that came since.
//!
//! All of it is laid ready while nothing runs: the version directory from the backup; on SQLite a copy of the database
//! that was kept, to which the readings since are added; on PostgreSQL the way back is rehearsed. Then one write of the
//! boot record decides, and [`crate::settle`] brings it to its end, however often it is interrupted.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use config::{Credentials, InstallRoot};
use durable::Lock;
use protocol::Failure;
use readings::Place;
use readings::migrate::{self, Target};
use zip::ZipArchive;

use crate::backup::{self, ORIGIN, Origin};
use crate::boot_record::{Attempt, BootRecord, Database, Phase};
use crate::database::{self, ActiveDatabase};
use crate::package::{Limits, names};
use crate::patch;
use crate::settle::{self, Damage};
use crate::situation::version_of;
use crate::transition::Step;
use crate::trusted_keys;
use crate::version_directory::{MARGIN_BYTES, read_tree, tree_hash};

/// A backup that can be put back, or could but for its database.
#[derive(Clone, Debug)]
pub struct Kept {
    pub file: PathBuf,
    pub origin: Origin,
    pub bytes: u64,
}

/// What was put back.
#[derive(Clone, Debug)]
pub struct Restored {
    pub version: String,
    pub from_version: String,
    /// SQLite: readings that came after the update and were added to the older database.
    pub carried_over: Option<u64>,
}

/// The backups, newest first.
///
/// # Errors
/// Those of the file system. A backup that cannot be read is passed over.
pub fn list(root: &InstallRoot) -> Result<Vec<Kept>, Failure> {
    if !root.backups().exists() {
        return Ok(Vec::new());
    }
    let mut files = backup::listed(&root.backups())?;
    // By the time in the name, whatever the versions.
    files.sort_by_key(|file| {
        file.file_stem().and_then(|stem| stem.to_str()?.rsplit_once('_')).map(|(_, at)| at.to_owned())
    });
    Ok(files.iter().rev().filter_map(|file| look(file).ok()).collect())
}

/// # Errors
/// A file that is no backup.
pub fn look(file: &Path) -> Result<Kept, Failure> {
    let bytes = std::fs::metadata(file).map_err(|error| durable::name_error("read", file, error))?.len();
    let mut zip = open(file)?;
    let mut json = Vec::new();
    let entry = zip.by_name(ORIGIN).map_err(|error| no_backup(file, &error))?;
    entry.take(64 << 10).read_to_end(&mut json).map_err(|error| durable::name_error("read", file, error))?;
    let origin = serde_json::from_slice(&json).map_err(|error| no_backup(file, &error))?;
    Ok(Kept { file: file.to_owned(), origin, bytes })
}

/// Why a backup cannot be put back, as far as that can be told without trying.
///
/// # Errors
/// A boot record or configuration that cannot be read.
pub fn obstacle(root: &InstallRoot, kept: &Kept) -> Result<Option<String>, Failure> {
    let Ok(record) = settle::read(root) else { return Ok(None) };
    let database = &kept.origin.database;
    if kept.origin.id().as_ref() == Some(&record.current) {
        return Ok(Some("it is the version that is installed".to_owned()));
    }
    let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
    if schema_of(&record, database.as_ref()) == schema_of(&record, record.database.as_ref())
        || matches!(readings::place(&configured, root.path())?, Place::Postgres)
    {
        return Ok(None);
    }
    let place =
        |database: Option<&Database>| readings::place(&ActiveDatabase::named(&configured, database).url, root.path());
    let there = match (place(database.as_ref())?, place(record.database.as_ref())?) {
        (Place::Sqlite(older), Place::Sqlite(current)) => older != current && older.exists(),
        _ => false,
    };
    Ok((!there).then(|| "its database is gone".to_owned()))
}

/// Without a database of its own a version worked with what was there before the first update that changed it.
fn schema_of(record: &BootRecord, database: Option<&Database>) -> Option<String> {
    database.map(|database| database.schema.clone()).or_else(|| record.first_schema.clone())
}

/// Puts it back. The caller holds the launcher's lock, so nothing of the plant runs, and has asked for the PIN.
///
/// # Errors
/// Why it cannot be; then everything is as it was. With exit code 75 it is decided, and the next start ends it.
pub fn restore(root: &InstallRoot, kept: &Kept) -> Result<Restored, Failure> {
    let _lock = settle::lock(root)?;
    // An import writes to the database, too.
    let _no_import = Lock::take(&root.database_lock())
        .map_err(|_| Failure::try_later("an import is running; let it end, then call this again"))?;
    let record = match (settle::read_durable(root), settle::damage(root)) {
        (Err(_), Some(Damage::Lost)) => return restore_lost(root, kept),
        (Err(_), Some(Damage::Mendable)) => {
            let what = "the boot record is damaged, and what was last committed is certain: start the watchdog once, \
                        which mends it, and stop it again";
            return Err(Failure::try_later(what));
        }
        (record, _) => settle::log_waiting(root, record?)?,
    };
    if record.phase != Phase::Committed {
        let what = "an update is under way; start the watchdog, let it come to its end, and stop it again";
        return Err(Failure::try_later(what));
    }
    require_room(root, kept)?;
    let to = lay(root, kept, &record.current)?;
    let from_version = version_of(&record.current)?;
    let id = Attempt::new_id();
    let step = |database, in_place| Step::Restore {
        id: id.clone(),
        from_version: from_version.clone(),
        to_version: kept.origin.version.clone(),
        to: to.clone(),
        database,
        in_place,
    };
    // As it will be, for the name of a copy.
    let begun = record.after(step(None, false)).map_err(Failure::failed)?;
    let attempt = begun.attempt.as_ref().ok_or_else(|| Failure::failed("the boot record takes no attempt"))?;
    let Way { database, in_place, carried_over } = way(root, &record, &kept.origin, attempt)?;
    let decided = settle::write(root, &record, step(database, in_place))?;
    let settled = settle::finish_commit(root, &decided)?;
    if settled.phase == Phase::FallingBack {
        let error = settled.attempt.as_ref().and_then(|attempt| attempt.error.clone()).unwrap_or_default();
        settle::finish_fallback(root, &settled)?;
        return Err(Failure::failed(error));
    }
    Ok(Restored { version: kept.origin.version.to_string(), from_version: from_version.to_string(), carried_over })
}

/// Looks before anything is begun whether all of it will fit.
fn require_room(root: &InstallRoot, kept: &Kept) -> Result<(), Failure> {
    let mut zip = open(&kept.file)?;
    let mut needed = MARGIN_BYTES;
    for number in 0..zip.len() {
        needed += zip.by_index_raw(number).map_err(|error| no_backup(&kept.file, &error))?.size();
    }
    let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
    if let Place::Sqlite(file) =
        readings::place(&ActiveDatabase::of(root).map_or(configured, |it| it.url), root.path())?
    {
        // The copy, and the journal of what is added to it.
        needed += 2 * std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    }
    let free = durable::free_bytes(root.path())?;
    match free >= needed {
        true => Ok(()),
        false => Err(Failure::disk(format!("this needs {} MB of room and there are {} MB", needed >> 20, free >> 20))),
    }
}

/// Nothing says what ran here. The backup says what it belongs to; that the database is still that one has to be certain.
fn restore_lost(root: &InstallRoot, kept: &Kept) -> Result<Restored, Failure> {
    let Origin { version, database, .. } = &kept.origin;
    let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
    let in_place = match (readings::place(&configured, root.path())?, database) {
        (Place::Postgres, Some(database)) => {
            migrate::undo(&configured, &Target::Schema(database.schema.clone()), true)?;
            true
        }
        // The program opens its own schema and no other.
        (Place::Postgres, None) => false,
        (Place::Sqlite(original), database) => {
            let expected = readings::place(&ActiveDatabase::named(&configured, database.as_ref()).url, root.path())?;
            let mut found = database::copies_of(&original);
            found.extend(Some(original).filter(|original| original.exists()));
            if !matches!((&expected, found.as_slice()), (Place::Sqlite(expected), [only]) if expected == only) {
                let found: Vec<String> = found.iter().map(|file| file.display().to_string()).collect();
                return Err(Failure::failed(format!(
                    "it is not certain which database belongs to version {version}: there are {}. Copy the whole root \
                     to a safe place; then `watchdog init` a new root whose DATABASE_URL names the newest of them, or \
                     call the publisher",
                    found.join(" and ")
                )));
            }
            false
        }
    };
    require_room(root, kept)?;
    let to = lay(root, kept, "")?;
    let mut first = BootRecord::first("0.0.0-unknown0".to_owned(), version.clone());
    // Never fewer than were known: a lost set of keys is not replaced by the configured ones.
    first.keys_version = kept.origin.keys_version.max(trusted_keys::version_on_disk(root)?);
    let step = Step::Restore {
        id: Attempt::new_id(),
        from_version: version.clone(),
        to_version: version.clone(),
        to,
        database: database.clone(),
        in_place,
    };
    let decided = first.after(step).map_err(Failure::failed)?;
    decided.create_anew(&root.boot_record()).map_err(Failure::disk)?;
    settle::finish_commit(root, &decided)?;
    Ok(Restored { version: version.to_string(), from_version: "an unknown version".to_owned(), carried_over: None })
}

/// How the database gets to where the older version left it.
struct Way {
    database: Option<Database>,
    in_place: bool,
    carried_over: Option<u64>,
}

fn way(root: &InstallRoot, record: &BootRecord, origin: &Origin, attempt: &Attempt) -> Result<Way, Failure> {
    let target = schema_of(record, origin.database.as_ref());
    if target == schema_of(record, record.database.as_ref()) {
        return Ok(Way { database: record.database.clone(), in_place: false, carried_over: None });
    }
    let target = target.ok_or_else(|| Failure::failed("it is not known which schema that version worked with"))?;
    let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
    let current = ActiveDatabase::named(&configured, record.database.as_ref());
    let Place::Sqlite(from) = readings::place(&current.url, root.path())? else {
        migrate::undo(&configured, &Target::Schema(target.clone()), true)?;
        return Ok(Way {
            database: Some(database::record(&configured, None, target)),
            in_place: true,
            carried_over: None,
        });
    };
    let older = ActiveDatabase::named(&configured, origin.database.as_ref());
    let place = |url: &str| match readings::place(url, root.path()) {
        Ok(Place::Sqlite(path)) => Ok(path),
        _ => Err(Failure::configuration("DATABASE_URL names another database than the one that was backed up with")),
    };
    let (older, original) = (place(&older.url)?, place(&configured)?);
    if older == from || !older.exists() {
        return Err(Failure::failed(format!(
            "version {} works with the database as it was before later updates, and that one is kept only until the \
             next update: {} is gone. `watchdog restore --root DIR` shows which backups can be put back; or have HQ send an \
             update",
            origin.version,
            older.display()
        )));
    }
    let copy = database::copy_for(&original, attempt);
    let carried = migrate::copy_sqlite(&older, &copy).and_then(|()| migrate::carry_over(&from, &copy));
    let carried = carried.inspect_err(|_| {
        for file in database::files_of(&copy) {
            let _ = durable::remove(&file);
        }
    })?;
    durable::sync_folder_of(&copy)?;
    let file = copy.strip_prefix(root.path()).unwrap_or(&copy).to_string_lossy().into_owned();
    let database = Some(database::record(&configured, Some(file), target));
    Ok(Way { database, in_place: false, carried_over: Some(carried) })
}

/// The version directory, from the backup unless it is there still.
fn lay(root: &InstallRoot, kept: &Kept, current: &str) -> Result<String, Failure> {
    let Origin { version, tree, .. } = &kept.origin;
    let id = kept.origin.id().ok_or_else(|| no_backup(&kept.file, &"it names no tree"))?;
    let [new, old] = [".new", ".old"].map(|name| root.versions().join(name));
    let place = root.versions().join(&id);
    let is_whole = place.exists() && read_tree(&place).is_ok_and(|files| tree_hash(&files) == *tree);
    match (is_whole, id == current) {
        (true, true) => return Err(Failure::usage(format!("version {version} runs already"))),
        (true, false) => return Ok(id),
        (false, _) => {}
    }
    durable::remove_tree(&new)?;
    durable::remove_tree(&old)?;
    patch::make_folder(&new)?;
    let unpacked = unpack(&kept.file, &new).and_then(|()| match tree_hash(&read_tree(&new)?) == *tree {
        true => Ok(patch::sync_folders(&new)?),
        false => {
            let what = "is damaged: its files are not what was backed up";
            Err(Failure::integrity(format!("{} {what}", kept.file.display())))
        }
    });
    if unpacked.is_err() {
        durable::remove_tree(&new)?;
        return unpacked.map(|()| id);
    }
    if place.exists() {
        durable::rename(&place, &old)?;
    }
    durable::rename(&new, &place)?;
    durable::remove_tree(&old)?;
    Ok(id)
}

fn unpack(file: &Path, to: &Path) -> Result<(), Failure> {
    let mut zip = open(file)?;
    let mut room = Limits::DEFAULT.unpacked_bytes;
    for number in 0..zip.len() {
        let mut entry = zip.by_index(number).map_err(|error| no_backup(file, &error))?;
        let name = entry.name().map_err(|error| no_backup(file, &error))?.into_owned();
        if name == ORIGIN {
            continue;
        }
        names::check(&name).map_err(|refusal| no_backup(file, &refusal))?;
        let target = to.join(&name);
        let named = |error| durable::name_error("write", &target, error);
        if let Some(folder) = target.parent() {
            patch::make_folder(folder)?;
        }
        let executable = entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
        let mut output = File::options().write(true).create_new(true).open(&target).map_err(named)?;
        let written = io::copy(&mut (&mut entry).take(room), &mut output).map_err(named)?;
        room = room.checked_sub(written).filter(|room| *room > 0).ok_or_else(|| no_backup(file, &"it is too large"))?;
        patch::set_mode(&output, executable).and_then(|()| output.sync_all()).map_err(named)?;
    }
    Ok(())
}

fn open(file: &Path) -> Result<ZipArchive<BufReader<File>>, Failure> {
    let opened = File::open(file).map_err(|error| durable::name_error("read", file, error))?;
    ZipArchive::new(BufReader::new(opened)).map_err(|error| no_backup(file, &error))
}

fn no_backup(file: &Path, what: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{} is no backup that can be put back: {what}", file.display()))
}
