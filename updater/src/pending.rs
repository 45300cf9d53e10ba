//! `pending_update/`: the package that waits for the operator, and `meta.json`, which tells of it.
//!
//! The agent lays what it has received and verified into `incoming/`; the watchdog judges it again, moves it here and
//! writes `meta.json`, which alone says that a package waits. A package without it is a left-over.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;

use config::{InstallRoot, Settings};
use durable::Access;
use protocol::control::{Changes, PendingState, PendingUpdate};
use protocol::{Failure, Timestamp};

use crate::boot_record::{BootRecord, Phase};
use crate::package::{Code, Manifest, Refusal, VerifiedPackage, verify};
use crate::patch;
use crate::situation::{limits, situation, trust};
use crate::version_directory::{TreeFile, VERSION_FILE, read_tree};

/// Why a package was not taken in.
#[derive(Debug)]
pub enum NotTaken {
    Refused(Refusal),
    /// Another one is being applied.
    Busy,
    Failed(Failure),
}

/// The package that waits, if one does.
pub fn read(root: &InstallRoot) -> Option<PendingUpdate> {
    let bytes = fs::read(root.pending_meta()).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Takes a received package in: judged against what runs here now, it replaces the one that waits.
///
/// # Errors
/// [`NotTaken`]; then the file is gone, and what waited still waits.
pub fn take_in(root: &InstallRoot, settings: &Settings, file_name: &str) -> Result<PendingUpdate, NotTaken> {
    let received = root.incoming().join(file_name);
    // A name, not a way out.
    if file_name.contains(['/', '\\']) || file_name.starts_with('.') {
        return Err(NotTaken::Failed(Failure::failed(format!("{file_name} is no received package"))));
    }
    let taken = judge_and_place(root, settings, &received);
    if taken.is_err() {
        let _ = durable::remove(&received);
    }
    taken
}

fn judge_and_place(root: &InstallRoot, settings: &Settings, received: &Path) -> Result<PendingUpdate, NotTaken> {
    let record = BootRecord::read(&root.boot_record()).map_err(Failure::configuration)?;
    if record.phase != Phase::Committed {
        return Err(NotTaken::Busy);
    }
    let file = open_plain(received).map_err(|error| durable::name_error("read", received, error))?;
    let bytes = file.metadata().map_err(|error| durable::name_error("read", received, error))?.len();
    let situation = situation(root, settings, &record)?;
    let package = verify(file, &trust(root, settings)?, &limits(settings), Some(&situation))?;
    let before = read(root);
    let tree = read_tree(&root.versions().join(&record.current))?;
    // What comes out is known before anybody approves it.
    patch::result(package.manifest(), &tree)?;
    let mut meta = describe(&package, bytes, changes(package.manifest(), &tree));
    if let Some(before) = before.as_ref().filter(|before| before.manifest_sha256 == meta.manifest_sha256) {
        // The same again: HQ was not sure. It has been here since it first came, and may have failed since.
        meta.received_at = before.received_at;
        (meta.state, meta.error) = (before.state, before.error.clone());
    }
    drop(package);
    let place = root.pending_update().join(&meta.package);
    durable::rename(received, &place)?;
    write(root, &meta)?;
    if let Some(before) = before.filter(|before| before.package != meta.package) {
        let _ = durable::remove(&root.pending_update().join(before.package));
    }
    Ok(meta)
}

/// The folder is the agent's: what lies there may be a pipe that nobody writes to, or a link to somewhere else.
fn open_plain(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no plain file")),
    }
}

fn describe(package: &VerifiedPackage, bytes: u64, changes: Changes) -> PendingUpdate {
    let manifest = package.manifest();
    PendingUpdate {
        version: manifest.version.to_string(),
        notes: manifest.notes.clone(),
        package: format!("update_v{}.zip", manifest.version),
        manifest_sha256: package.manifest_sha256().to_owned(),
        package_bytes: bytes,
        created: manifest.created,
        received_at: Timestamp::now(),
        expires: manifest.expires,
        signers: package.signers().to_vec(),
        bound: manifest.base.is_some() || manifest.complete,
        changes,
        migrations: manifest.migrations.iter().map(|migration| migration.name.clone()).collect(),
        state: PendingState::Waiting,
        error: None,
    }
}

/// What the package would change in the version that runs.
fn changes(manifest: &Manifest, tree: &[TreeFile]) -> Changes {
    let running: HashMap<&str, &TreeFile> = tree.iter().map(|file| (file.path.as_str(), file)).collect();
    let packed: HashSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let removed: HashSet<&str> = manifest.remove.iter().map(String::as_str).collect();
    let mut changes = Changes::default();
    for file in &manifest.files {
        match running.get(file.path.as_str()) {
            None => changes.added.push(file.path.clone()),
            Some(running) if running.sha256 != file.sha256 || running.executable != file.executable => {
                changes.changed.push(file.path.clone());
            }
            Some(_) => {}
        }
    }
    for running in tree.iter().filter(|running| running.path != VERSION_FILE) {
        let path = running.path.as_str();
        let kept = !manifest.complete && !removed.contains(path) || packed.contains(path);
        if !kept {
            changes.removed.push(running.path.clone());
        }
    }
    changes
}

/// Notes what has become of the waiting package; nothing if it is no longer this one.
///
/// # Errors
/// Those of the file system.
pub fn set_state(
    root: &InstallRoot,
    manifest_sha256: &str,
    state: PendingState,
    error: Option<String>,
) -> io::Result<()> {
    match read(root) {
        Some(meta) if meta.manifest_sha256 == manifest_sha256 => write(root, &PendingUpdate { state, error, ..meta }),
        _ => Ok(()),
    }
}

/// Nothing waits any more.
///
/// # Errors
/// Those of the file system.
pub fn clear(root: &InstallRoot) -> io::Result<()> {
    let meta = read(root);
    durable::remove(&root.pending_meta())?;
    match meta {
        Some(meta) => durable::remove(&root.pending_update().join(meta.package)),
        None => Ok(()),
    }
}

/// At a start: what waits is judged anew (keys, versions and time may have changed, and a kill may have left a package
/// beside the `meta.json` of another), and left-overs are removed.
///
/// # Errors
/// Those of the file system or the configuration; a package that no longer passes is removed and told.
pub fn judge_again(root: &InstallRoot, settings: &Settings) -> Result<Option<Refusal>, Failure> {
    let record = BootRecord::read(&root.boot_record()).map_err(Failure::configuration)?;
    if record.phase != Phase::Committed {
        return Ok(None);
    }
    let meta = read(root);
    let waiting = meta.as_ref().map(|meta| root.pending_update().join(&meta.package));
    for entry in fs::read_dir(root.pending_update())
        .map_err(|error| durable::name_error("read", &root.pending_update(), error))?
    {
        let path = entry.map_err(|error| durable::name_error("read", &root.pending_update(), error))?.path();
        if path.extension().is_some_and(|ending| ending == "zip") && Some(&path) != waiting.as_ref() {
            durable::remove(&path)?;
        }
    }
    let (Some(meta), Some(path)) = (meta, waiting) else {
        durable::remove(&root.pending_meta())?;
        return Ok(None);
    };
    let mut situation = situation(root, settings, &record)?;
    situation.waiting = None;
    let judged = match File::open(&path) {
        Ok(file) => verify(file, &trust(root, settings)?, &limits(settings), Some(&situation)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Refusal { code: Code::MissingPart, detail: format!("{} is gone", path.display()) })
        }
        Err(error) => return Err(durable::name_error("read", &path, error).into()),
    };
    match judged {
        // The disk's fault, not the package's.
        Err(refusal) if refusal.code == Code::Unreadable => Err(Failure::disk(refusal)),
        Err(refusal) => {
            clear(root)?;
            Ok(Some(refusal))
        }
        Ok(package) => {
            let tree = read_tree(&root.versions().join(&record.current))?;
            let fresh = describe(&package, meta.package_bytes, changes(package.manifest(), &tree));
            let same = fresh.manifest_sha256 == meta.manifest_sha256;
            let state = match meta.state {
                // Its attempt is over, however it ended.
                PendingState::Applying => PendingState::Waiting,
                state => state,
            };
            write(root, &if same { PendingUpdate { state, changes: fresh.changes, ..meta } } else { fresh })?;
            Ok(None)
        }
    }
}

fn write(root: &InstallRoot, meta: &PendingUpdate) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(meta).expect("plain values serialise");
    json.push(b'\n');
    durable::replace(&root.pending_meta(), &json, Access::Shared)
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for NotTaken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for NotTaken {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}
