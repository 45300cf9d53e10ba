//! `pending_update/`: the package that waits for the operator, and `meta.json`, which tells of it. A package of keys comes
//! before one of programs: that waits behind it, as `behind.json`, and is judged again once the keys are others.
//!
//! The agent lays what it has received and verified into `incoming/`; the watchdog judges it again, moves it here and
//! writes `meta.json`, which alone says that a package waits. A package without it is a left-over.

use std::collections::{HashMap, HashSet};
use std::fs;
#[cfg(unix)]
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use config::{InstallRoot, Settings};
use durable::Access;
use protocol::control::{Changes, KeyChanges, PendingState, PendingUpdate};
use protocol::{Failure, Timestamp};

use crate::boot_record::{BootRecord, Phase};
use crate::package::{Code, Manifest, Refusal, Trust, VerifiedPackage, verify};
use crate::patch;
use crate::situation::{limits, situation};
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

/// The package of programs that waits, be it behind one of keys.
pub fn program(root: &InstallRoot) -> Option<PendingUpdate> {
    read(root).filter(|pending| pending.keys.is_none()).or_else(|| behind(root))
}

fn behind(root: &InstallRoot) -> Option<PendingUpdate> {
    let bytes = fs::read(root.pending_behind()).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Takes a received package in: judged against what runs here now, it replaces the one of its kind that waits.
///
/// # Errors
/// [`NotTaken`]; then the file is gone, and what waited still waits.
pub fn take_in(root: &InstallRoot, settings: &Settings, file_name: &str) -> Result<PendingUpdate, NotTaken> {
    let received = root.incoming().join(file_name);
    // A name, not a way out.
    if file_name.contains(['/', '\\', ':']) || file_name.starts_with('.') {
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
    let file = durable::open_plain(received)?;
    let bytes = file.metadata().map_err(|error| durable::name_error("read", received, error))?.len();
    #[cfg(unix)]
    let judged = file.try_clone().map_err(|error| durable::name_error("read", received, error))?;
    let (trust, situation) = situation(root, settings, &record)?;
    let package = verify(file, &trust, &limits(settings), Some(&situation))?;
    let waiting = read(root);
    let keys_wait = waiting.as_ref().is_some_and(|waiting| waiting.keys.is_some());
    let is_keys = package.new_trust().is_some();
    let before = if is_keys { waiting.clone().filter(|_| keys_wait) } else { program(root) };
    let tree = read_tree(&root.versions().join(&record.current))?;
    // What comes out is known before anybody approves it.
    if !is_keys {
        patch::result(package.manifest(), &tree)?;
    }
    let mut meta = describe(&package, bytes, &tree, &trust, &record);
    if let Some(before) = before.as_ref().filter(|before| before.manifest_sha256 == meta.manifest_sha256) {
        // The same again: HQ was not sure. It has been here since it first came, and may have failed since.
        meta.received_at = before.received_at;
        if !before.outdated {
            (meta.state, meta.error) = (before.state, before.error.clone());
        }
    }
    drop(package);
    let place = root.pending_update().join(&meta.package);
    #[cfg(unix)]
    move_judged(&judged, received, &place)?;
    #[cfg(not(unix))]
    durable::rename(received, &place)?;
    match (is_keys, keys_wait) {
        (false, true) => write_to(&root.pending_behind(), &meta)?,
        (true, false) => {
            if let Some(waiting) = &waiting {
                write_to(&root.pending_behind(), waiting)?;
            }
            write(root, &meta)?;
        }
        (true, true) | (false, false) => write(root, &meta)?,
    }
    if let Some(before) = before.filter(|before| !is_same_name(&before.package, &meta.package)) {
        let _ = durable::remove(&root.pending_update().join(before.package));
    }
    Ok(meta)
}

/// Of one file: versions may differ in the case of letters alone, which is one name on Windows.
fn is_same_name(one: &str, other: &str) -> bool {
    if cfg!(windows) { one.eq_ignore_ascii_case(other) } else { one == other }
}

/// The folder is the agent's: what was judged is what is moved, or nothing is. (On Windows an open file cannot be renamed,
/// and nobody else is let at it.)
#[cfg(unix)]
fn move_judged(judged: &File, received: &Path, place: &Path) -> Result<(), NotTaken> {
    durable::rename(received, place)?;
    if !is_same(judged, place)? {
        durable::remove(place)?;
        return Err(NotTaken::Failed(Failure::failed("the received package was exchanged while it was judged")));
    }
    Ok(())
}

#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (one, other) = (file.metadata()?, fs::symlink_metadata(path)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn describe(
    package: &VerifiedPackage,
    bytes: u64,
    tree: &[TreeFile],
    trust: &Trust,
    record: &BootRecord,
) -> PendingUpdate {
    let manifest = package.manifest();
    let keys = package.new_trust().map(|new| key_changes(manifest, trust, new, record));
    let changes = if keys.is_some() { Changes::default() } else { changes(manifest, tree) };
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
        bound: manifest.base.is_some() || manifest.complete || keys.is_some(),
        changes,
        migrations: manifest.migrations.iter().map(|migration| migration.name.clone()).collect(),
        keys,
        state: PendingState::Waiting,
        error: None,
        outdated: false,
    }
}

/// What a package of keys would change in whom to trust.
fn key_changes(manifest: &Manifest, old: &Trust, new: &Trust, record: &BootRecord) -> KeyChanges {
    let ids = |trust: &Trust| trust.keys.iter().map(|key| key.id().to_owned()).collect::<Vec<_>>();
    let required_before = old.required;
    let (old, new_ids) = (ids(old), ids(new));
    let floor = manifest.min_version.as_ref().filter(|floor| floor.cmp_precedence(&record.floor).is_lt());
    KeyChanges {
        version: manifest.keys_version.unwrap_or_default(),
        required: new.required,
        required_before,
        added: new_ids.iter().filter(|id| !old.contains(id)).cloned().collect(),
        kept: new_ids.iter().filter(|id| old.contains(id)).cloned().collect(),
        removed: old.iter().filter(|id| !new_ids.contains(id)).cloned().collect(),
        floor: floor.map(ToString::to_string),
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

/// This package waits no more; what waited behind it has its place. Nothing if that is so already.
///
/// # Errors
/// Those of the file system.
pub fn clear(root: &InstallRoot, manifest_sha256: &str) -> io::Result<()> {
    let Some(meta) = read(root).filter(|meta| meta.manifest_sha256 == manifest_sha256) else { return Ok(()) };
    if behind(root).is_some() {
        durable::rename(&root.pending_behind(), &root.pending_meta())?;
    } else {
        durable::remove(&root.pending_meta())?;
    }
    durable::remove(&root.pending_update().join(meta.package))
}

/// At a start, and once the keys are others: what waits is judged anew (keys, versions and time may have changed, and a
/// kill may have left a package beside the `meta.json` of another), and left-overs are removed.
///
/// # Errors
/// Those of the file system or the configuration; packages that no longer pass are removed and told.
pub fn judge_again(root: &InstallRoot, settings: &Settings) -> Result<Vec<Refusal>, Failure> {
    let record = BootRecord::read(&root.boot_record()).map_err(Failure::configuration)?;
    if record.phase != Phase::Committed {
        return Ok(Vec::new());
    }
    if read(root).is_none_or(|waiting| waiting.keys.is_none()) && behind(root).is_some() {
        // A kill between the two writes of a delivery or of an outcome.
        durable::rename(&root.pending_behind(), &root.pending_meta())?;
    }
    let waiting: Vec<(PathBuf, PendingUpdate)> =
        [(root.pending_meta(), read(root)), (root.pending_behind(), behind(root))]
            .into_iter()
            .filter_map(|(meta, pending)| Some((meta, pending?)))
            .collect();
    for entry in fs::read_dir(root.pending_update())
        .map_err(|error| durable::name_error("read", &root.pending_update(), error))?
    {
        let path = entry.map_err(|error| durable::name_error("read", &root.pending_update(), error))?.path();
        let waits = waiting.iter().any(|(_, pending)| root.pending_update().join(&pending.package) == path);
        if path.extension().is_some_and(|ending| ending == "zip") && !waits {
            durable::remove(&path)?;
        }
    }
    if waiting.is_empty() {
        durable::remove(&root.pending_meta())?;
    }
    let mut refused = Vec::new();
    // What waits behind first: what it then is in the place of is itself.
    for (place, pending) in waiting.into_iter().rev() {
        refused.extend(judge_one_again(root, settings, &record, &place, pending)?);
    }
    Ok(refused)
}

fn judge_one_again(
    root: &InstallRoot,
    settings: &Settings,
    record: &BootRecord,
    place: &Path,
    meta: PendingUpdate,
) -> Result<Option<Refusal>, Failure> {
    let path = root.pending_update().join(&meta.package);
    let (trust, mut situation) = situation(root, settings, record)?;
    situation.waiting = None;
    let judged = match durable::open_plain(&path) {
        Ok(file) => verify(file, &trust, &limits(settings), Some(&situation)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Refusal { code: Code::MissingPart, detail: format!("{} is gone", path.display()) })
        }
        Err(error) => return Err(durable::name_error("read", &path, error).into()),
    };
    match judged {
        // The disk's fault, not the package's.
        Err(refusal) if refusal.code == Code::Unreadable => Err(Failure::disk(refusal)),
        Err(refusal) if refusal.code == Code::MissingPart => {
            clear(root, &meta.manifest_sha256)?;
            if place != root.pending_meta() {
                durable::remove(place)?;
            }
            Ok(Some(refusal))
        }
        // It does not vanish without a word.
        Err(refusal) => {
            let error = Some(format!("it is no longer taken here: {refusal}; headquarters has to send another"));
            write_to(place, &PendingUpdate { state: PendingState::Failed, error, outdated: true, ..meta })?;
            Ok(Some(refusal))
        }
        Ok(package) => {
            let tree = read_tree(&root.versions().join(&record.current))?;
            let bytes = fs::metadata(&path).map_or(meta.package_bytes, |metadata| metadata.len());
            let mut fresh = describe(&package, bytes, &tree, &trust, record);
            let same = fresh.manifest_sha256 == meta.manifest_sha256;
            if same {
                fresh.received_at = meta.received_at;
            }
            // An attempt that is over, however it ended, and what was no longer taken and is again: for the operator to read.
            if same && meta.state != PendingState::Applying && !meta.outdated {
                (fresh.state, fresh.error) = (meta.state, meta.error);
            }
            write_to(place, &fresh)?;
            Ok(None)
        }
    }
}

fn write(root: &InstallRoot, meta: &PendingUpdate) -> io::Result<()> {
    write_to(&root.pending_meta(), meta)
}

fn write_to(path: &Path, meta: &PendingUpdate) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(meta).expect("plain values serialise");
    json.push(b'\n');
    durable::replace(path, &json, Access::Shared)
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
