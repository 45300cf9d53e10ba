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
use protocol::Failure;
use readings::{Place, migrate};
use zip::ZipArchive;

use crate::backup::{self, ORIGIN, Origin};
use crate::boot_record::{BootRecord, Database, Phase};
use crate::database::{self, ActiveDatabase};
use crate::package::{Limits, names};
use crate::patch::{self, remove_tree};
use crate::settle::{self, Damage};
use crate::situation::version_of;
use crate::transition::Step;
use crate::version_directory::{read_tree, tree_hash, version_id};

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

/// Puts it back. The caller holds the launcher's lock, so nothing of the plant runs, and has asked for the PIN.
///
/// # Errors
/// Why it cannot be; then everything is as it was. With exit code 75 it is decided, and the next start ends it.
pub fn restore(root: &InstallRoot, kept: &Kept) -> Result<Restored, Failure> {
    let _lock = settle::lock(root)?;
    let record = match settle::read_durable(root) {
        Err(_) if settle::damage(root) == Some(Damage::Lost) => return restore_lost(root, kept),
        record => record?,
    };
    if record.phase != Phase::Committed {
        let what = "an update is under way; start the watchdog, let it come to its end, and stop it again";
        return Err(Failure::try_later(what));
    }
    let to = lay(root, kept)?;
    if to == record.current {
        return Err(Failure::usage(format!("version {} runs already", kept.origin.version)));
    }
    let from_version = version_of(&record.current)?;
    let id = format!("{:032x}", rand::random::<u128>());
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
    let number_and_id = |configured: &Path| database::copy_for(configured, attempt);
    let Way { database, in_place, carried_over } = way(root, &record, &kept.origin, number_and_id)?;
    let decided = settle::write(root, &record, step(database, in_place))?;
    settle::finish_commit(root, &decided)?;
    Ok(Restored { version: kept.origin.version.to_string(), from_version: from_version.to_string(), carried_over })
}

/// Nothing says what ran here. The backup says what it belongs to; that the database is still that one has to be certain.
fn restore_lost(root: &InstallRoot, kept: &Kept) -> Result<Restored, Failure> {
    let Origin { version, database, .. } = &kept.origin;
    let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
    let in_place = match readings::place(&configured, root.path())? {
        Place::Postgres => {
            migrate::undo(&configured, database.as_ref().map(|database| database.schema.as_str()), true)?;
            true
        }
        Place::Sqlite(original) => {
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
    let to = lay(root, kept)?;
    let step = Step::Restore {
        id: format!("{:032x}", rand::random::<u128>()),
        from_version: version.clone(),
        to_version: version.clone(),
        to: to.clone(),
        database: database.clone(),
        in_place,
    };
    let decided = BootRecord::first(to, version.clone()).after(step).map_err(Failure::failed)?;
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

fn way(
    root: &InstallRoot,
    record: &BootRecord,
    origin: &Origin,
    copy_for: impl FnOnce(&Path) -> PathBuf,
) -> Result<Way, Failure> {
    let schema = |database: &Option<Database>| database.as_ref().map(|database| database.schema.clone());
    if schema(&origin.database) == schema(&record.database) {
        return Ok(Way { database: record.database.clone(), in_place: false, carried_over: None });
    }
    let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
    let current = ActiveDatabase::named(&configured, record.database.as_ref());
    let Place::Sqlite(from) = readings::place(&current.url, root.path())? else {
        let target = schema(&origin.database);
        migrate::undo(&configured, target.as_deref(), true)?;
        let database = target.map(|schema| database::record(&configured, None, schema));
        return Ok(Way { database, in_place: true, carried_over: None });
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
             next update: {} is gone. Put back the newest backup, or have HQ send an update",
            origin.version,
            older.display()
        )));
    }
    let copy = copy_for(&original);
    migrate::copy_sqlite(&older, &copy)?;
    let carried = migrate::carry_over(&from, &copy)?;
    durable::sync_folder_of(&copy)?;
    let file = copy.strip_prefix(root.path()).unwrap_or(&copy).to_string_lossy().into_owned();
    let schema = match &origin.database {
        Some(database) => database.schema.clone(),
        None => migrate::schema_of(&migrate::applied_sqlite(&copy)?),
    };
    let database = Some(database::record(&configured, Some(file), schema));
    Ok(Way { database, in_place: false, carried_over: Some(carried) })
}

/// The version directory, from the backup unless it is there still.
fn lay(root: &InstallRoot, kept: &Kept) -> Result<String, Failure> {
    let Origin { version, tree, .. } = &kept.origin;
    if tree.len() < 8 || !tree.is_ascii() {
        return Err(no_backup(&kept.file, &"it names no tree"));
    }
    let id = version_id(&version.to_string(), tree);
    let (new, place) = (root.versions().join(".new"), root.versions().join(&id));
    if place.exists() && tree_hash(&read_tree(&place)?) == *tree {
        return Ok(id);
    }
    remove_tree(&new)?;
    patch::make_folder(&new)?;
    unpack(&kept.file, &new)?;
    if tree_hash(&read_tree(&new)?) != *tree {
        remove_tree(&new)?;
        return Err(Failure::integrity(format!(
            "{} is damaged: its files are not what was backed up",
            kept.file.display()
        )));
    }
    patch::sync_folders(&new)?;
    remove_tree(&place)?;
    durable::rename(&new, &place)?;
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
