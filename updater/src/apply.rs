//! Applying an approved package: verify, back up, lay the new version, migrate, switch. One thread, one attempt; started
//! by the supervisor, killed whenever one likes.
//!
//! Until the switch the old version runs and nothing of it is touched. The switch is one write of the boot record.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use config::{Credentials, InstallRoot, Settings};
use durable::Lock;
use protocol::Failure;
use readings::Place;
use readings::migrate::{self, Migrated, Migration};

use crate::boot_record::{Attempt, BootRecord, Database, KeyChange, Phase};
use crate::database::{self, ActiveDatabase};
use crate::package::{Dialect, VerifiedPackage, verify};
use crate::situation::{limits, situation};
use crate::transition::Step;
use crate::version_directory::MARGIN_BYTES;
use crate::{backup, lifeline, patch, pending, progress, settle, trusted_keys};

pub use crate::lifeline::SPOOLING;

/// Applies the package that the boot record says is approved. When it returns, the boot record is at the trial of the
/// new version, or back at the old one.
///
/// # Errors
/// Why the attempt was given up. With exit code 75 even that could not be brought to its end.
pub fn apply(root: &InstallRoot) -> Result<(), Failure> {
    let _lock = settle::lock(root)?;
    let record = settle::read_durable(root)?;
    let (Phase::Preparing, Some(attempt)) = (record.phase, record.attempt.clone()) else {
        return Err(Failure::failed(format!("no update is approved (phase {})", record.phase.word())));
    };
    let Err(failure) = try_to_apply(root, &record, &attempt) else { return Ok(()) };
    let record = settle::read_durable(root)?;
    if matches!(record.phase, Phase::Preparing | Phase::Migrating) {
        let failing = settle::write(root, &record, Step::Fail { error: failure.message.clone() })?;
        settle::finish_fallback(root, &failing)?;
    }
    Err(failure)
}

fn try_to_apply(root: &InstallRoot, record: &BootRecord, attempt: &Attempt) -> Result<(), Failure> {
    let settings = Settings::read(root)?;
    progress::note(root, "verify", 20, "checking signature and contents of the package");
    let mut package = take_package(root, &settings, record, attempt)?;
    if let (Some(trust), Some(version)) = (package.new_trust(), package.manifest().keys_version) {
        trusted_keys::lay_ready(root, trust, version)?;
        lifeline::check()?;
        let change = KeyChange { version, floor: package.manifest().min_version.clone() };
        let record = settle::write(root, record, Step::Trust(change))?;
        return settle::finish_commit(root, &record).map(drop);
    }

    let active = ActiveDatabase::of(root)?;
    let dialect = active.dialect(root.path())?;
    let (migrations, schema_before) = new_migrations(root, &active, &package.migrations(dialect))?;
    let running = root.versions().join(&record.current);
    require_room(root, &settings, &package, &running, &active, !migrations.is_empty())?;
    progress::note(root, "backup", 40, "keeping a copy of the running version");
    backup::write(root, &attempt.from_version, record)?;

    progress::note(root, "patch", 70, "laying the new version beside the running one");
    let to = patch::lay(root, &mut package, &record.current)?;
    progress::note(root, "version", 75, &format!("{to} is complete"));

    let in_place = dialect == Dialect::Postgres && !migrations.is_empty();
    progress::note(root, "migrate", 90, migrating(&migrations));
    if in_place {
        migrate::rehearse(&active.url, &migrations)?;
    }
    // An import writes to the database as well, and does not spool.
    let _no_import = Lock::take(&root.database_lock())
        .map_err(|_| Failure::try_later("an import is running; let it end, then apply the update again"))?;
    lifeline::check()?;
    let record = settle::write(root, record, Step::Migrate { to, in_place, schema_before })?;
    lifeline::wait_for_spooling()?;
    let database = migrate_database(root, &record, attempt, dialect, &active, &migrations)?;
    lifeline::check()?;
    progress::note(root, "restart", 92, "starting the new version");
    settle::write(root, &record, Step::Switch { database })?;
    Ok(())
}

/// Copies the waiting package to where only the watchdog writes, and judges it there, whole.
fn take_package(
    root: &InstallRoot,
    settings: &Settings,
    record: &BootRecord,
    attempt: &Attempt,
) -> Result<VerifiedPackage, Failure> {
    let waiting = pending::read(root).filter(|pending| pending.manifest_sha256 == attempt.manifest_sha256);
    let waiting = waiting.ok_or_else(|| Failure::failed("the package that was approved is no longer there"))?;
    let (from, to) = (root.pending_update().join(&waiting.package), root.applied_package());
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| durable::name_error("create", folder, error))?;
    durable::sync_folder_of(folder)?;
    let free = durable::free_bytes(root.path())?;
    if free < waiting.package_bytes + settings.low_disk_reserve_bytes {
        return Err(no_room(waiting.package_bytes + settings.low_disk_reserve_bytes, free));
    }
    let mut source = durable::open_plain(&from)?.take(waiting.package_bytes + 1);
    let copied = durable::patiently(|| File::create(&to)).and_then(|mut file| {
        io::copy(&mut source, &mut file)?;
        file.sync_all()
    });
    copied.map_err(|error| durable::name_error("copy the package to", &to, error))?;
    durable::sync_folder(folder)?;
    let (trust, mut situation) = situation(root, settings, record)?;
    situation.waiting = None;
    let file = durable::patiently(|| File::open(&to)).map_err(|error| durable::name_error("read", &to, error))?;
    let package = verify(file, &trust, &limits(settings), Some(&situation)).map_err(Failure::integrity)?;
    match package.manifest_sha256() == attempt.manifest_sha256 {
        true => Ok(package),
        false => Err(Failure::integrity("the package is not the one that was approved")),
    }
}

/// Those that the database has not had, and its schema before them.
fn new_migrations(
    root: &InstallRoot,
    active: &ActiveDatabase,
    migrations: &[Migration],
) -> Result<(Vec<Migration>, Option<String>), Failure> {
    if migrations.is_empty() {
        return Ok((Vec::new(), None));
    }
    let applied = match readings::place(&active.url, root.path())? {
        Place::Sqlite(path) => migrate::applied_sqlite(&path)?,
        Place::Postgres => migrate::applied_postgres(&active.url)?,
    };
    if applied.is_empty() {
        return Err(Failure::try_later("the database has no tables yet; let the collector store something first"));
    }
    let new: Vec<Migration> = migrate::new_ones(migrations, &applied)?.into_iter().cloned().collect();
    let schema_before = (!new.is_empty()).then(|| migrate::schema_of(&applied));
    Ok((new, schema_before))
}

/// Looks before anything is begun whether all of it will fit.
fn require_room(
    root: &InstallRoot,
    settings: &Settings,
    package: &VerifiedPackage,
    running: &Path,
    active: &ActiveDatabase,
    migrates: bool,
) -> Result<(), Failure> {
    let new: u64 = package.manifest().files.iter().map(|file| file.size).sum();
    let backup = bytes_in(running)?;
    let copy = match readings::place(&active.url, root.path())? {
        Place::Sqlite(path) if migrates => {
            // The log's content is in the copy as well.
            let log = PathBuf::from(format!("{}-wal", path.display()));
            [path, log].iter().map(|file| fs::metadata(file).map_or(0, |metadata| metadata.len())).sum()
        }
        Place::Sqlite(_) | Place::Postgres => 0,
    };
    let needed = new + backup + copy + MARGIN_BYTES + settings.low_disk_reserve_bytes;
    let free = durable::free_bytes(root.path())?;
    match free >= needed {
        true => Ok(()),
        false => Err(no_room(needed, free)),
    }
}

fn no_room(needed: u64, free: u64) -> Failure {
    Failure::disk(format!(
        "the update needs {} MB of room on the disk and there are {} MB; free some space and apply it again",
        needed >> 20,
        free >> 20
    ))
}

fn bytes_in(folder: &Path) -> Result<u64, Failure> {
    let named = |error| durable::name_error("read", folder, error);
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(named)? {
        let entry = entry.map_err(named)?;
        let metadata = entry.metadata().map_err(named)?;
        bytes += if metadata.is_dir() { bytes_in(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

fn migrating(migrations: &[Migration]) -> &'static str {
    if migrations.is_empty() { "the database needs no change" } else { "changing the database" }
}

/// The database of the new version. Nothing writes to the old one now.
fn migrate_database(
    root: &InstallRoot,
    record: &BootRecord,
    attempt: &Attempt,
    dialect: Dialect,
    active: &ActiveDatabase,
    migrations: &[Migration],
) -> Result<Option<Database>, Failure> {
    if migrations.is_empty() {
        return Ok(record.database.clone());
    }
    let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
    if dialect == Dialect::Postgres {
        let Migrated { schema, .. } = migrate::up(&active.url, migrations, &attempt.id)?;
        return Ok(Some(database::record(&configured, None, schema)));
    }
    let (Place::Sqlite(from), Place::Sqlite(original)) =
        (readings::place(&active.url, root.path())?, readings::place(&configured, root.path())?)
    else {
        return Err(Failure::configuration("the database is not the one that is configured"));
    };
    let copy = database::copy_for(&original, attempt);
    migrate::copy_sqlite(&from, &copy)?;
    let Migrated { schema, .. } = migrate::migrate_sqlite(&copy, migrations, &attempt.id)?;
    durable::sync_folder_of(&copy)?;
    let file = copy.strip_prefix(root.path()).unwrap_or(&copy).to_string_lossy().into_owned();
    Ok(Some(database::record(&configured, Some(file), schema)))
}
