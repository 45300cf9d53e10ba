//! A new version directory beside the old one: unchanged files linked, new ones written from the verified package.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use config::InstallRoot;
use durable::Access;
use protocol::Failure;

use crate::lifeline;
use crate::package::{Code, Manifest, Platform, Refusal, VerifiedPackage, names};
use crate::version_directory::{TreeFile, VERSION_FILE, read_tree, tree_hash, version_id};

/// Without these a version cannot run.
pub const PROGRAMS: [&str; 4] = ["agent", "collector", "portal", "watchdog"];

/// The files that come out when a package is put on `old`.
///
/// # Errors
/// A name that collides with one that stays, a tree that is not the signed one, or one that lacks a program.
pub fn result(manifest: &Manifest, old: &[TreeFile]) -> Result<Vec<TreeFile>, Refusal> {
    let mut files: BTreeMap<&str, TreeFile> = BTreeMap::new();
    if !manifest.complete {
        let removed: HashSet<&String> = manifest.remove.iter().collect();
        let stays = |file: &&TreeFile| file.path != VERSION_FILE && !removed.contains(&file.path);
        files.extend(old.iter().filter(stays).map(|file| (file.path.as_str(), file.clone())));
    }
    for file in &manifest.files {
        let new = TreeFile { path: file.path.clone(), executable: file.executable, sha256: file.sha256.clone() };
        files.insert(&file.path, new);
    }
    // Ours lies there in any case, also for a file system that knows no case.
    let own = (!files.contains_key(VERSION_FILE)).then_some(VERSION_FILE);
    names::check_distinct(files.keys().copied().chain(own))?;
    for program in PROGRAMS {
        let is_there =
            |ending: &str| files.get(format!("{program}{ending}").as_str()).is_some_and(|file| file.executable);
        let endings: &[&str] = match manifest.platform.as_str() {
            Platform::ANY => &["", ".exe"],
            platform if platform.starts_with("windows") => &[".exe"],
            _ => &[""],
        };
        if !endings.iter().any(|ending| is_there(ending)) {
            let detail = format!("the version that comes out has no program {program}");
            return Err(Refusal { code: Code::IncompleteVersion, detail });
        }
    }
    let files: Vec<TreeFile> = files.into_values().collect();
    match &manifest.result_tree {
        Some(expected) if *expected != tree_hash(&files) => {
            let detail = "what comes out is not the version that the publisher signed".to_owned();
            Err(Refusal { code: Code::WrongResult, detail })
        }
        _ => Ok(files),
    }
}

/// Lays the new version directory, whole and flushed, and returns its name. Killed half-way it leaves `versions/.new`,
/// which the next attempt removes.
///
/// # Errors
/// Those of [`result`] and of the disk.
pub fn lay(root: &InstallRoot, package: &mut VerifiedPackage, running_id: &str) -> Result<String, Failure> {
    let old = root.versions().join(running_id);
    let old_tree = read_tree(&old)?;
    let files = result(package.manifest(), &old_tree).map_err(Failure::integrity)?;
    let version = package.manifest().version.to_string();
    let id = version_id(&version, &tree_hash(&files));
    let (new, place) = (root.versions().join(".new"), root.versions().join(&id));
    // Also in another case of letters, which is one name on Windows.
    if id.to_lowercase() == running_id.to_lowercase() {
        return Err(Failure::integrity(format!("{id} would take the place of {running_id}, which runs")));
    }
    for left_over in [&new, &place] {
        // Not the running one. It may be the one before, after a restore; that is laid again as it was.
        durable::remove_tree(left_over)?;
    }
    make_folder(&new)?;
    let packed: HashSet<String> = package.manifest().files.iter().map(|file| file.path.clone()).collect();
    for file in &files {
        lifeline::check()?;
        let target = new.join(&file.path);
        if let Some(folder) = target.parent() {
            make_folder(folder)?;
        }
        match packed.contains(&file.path) {
            true => write_file(package, file, &target)?,
            false => link_or_copy(&old.join(&file.path), &target)?,
        }
    }
    durable::replace(&new.join(VERSION_FILE), format!("{version}\n").as_bytes(), Access::Shared)?;
    sync_folders(&new)?;
    durable::rename(&new, &place)?;
    Ok(id)
}

fn write_file(package: &mut VerifiedPackage, file: &TreeFile, target: &Path) -> Result<(), Failure> {
    let named = |error| durable::name_error("write", target, error);
    let mut output = File::options().write(true).create_new(true).open(target).map_err(named)?;
    package
        .unpack(&file.path, |bytes| {
            lifeline::check().map_err(io::Error::other)?;
            output.write_all(bytes)
        })
        .map_err(|error| match error {
            crate::package::UnpackError::Refused(refusal) => Failure::integrity(refusal),
            crate::package::UnpackError::Sink(error) => named(error).into(),
        })?;
    set_mode(&output, file.executable).and_then(|()| output.sync_all()).map_err(named)?;
    Ok(())
}

/// Version directories are never changed, so two may share a file; a file system without links gets a copy.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        // Windows knows some files by a second, short name: nothing that was laid is written over.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(durable::name_error("create", to, error)),
        Err(_) => durable::copy(from, to),
        Ok(()) => Ok(()),
    }
}

#[cfg(unix)]
pub(crate) fn set_mode(file: &File, executable: bool) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))
}

/// Windows tells programs by their names.
#[cfg(not(unix))]
pub(crate) fn set_mode(_: &File, _: bool) -> io::Result<()> {
    Ok(())
}

pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|error| durable::name_error("create", path, error))
}

pub(crate) fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder).map_err(|error| durable::name_error("read", folder, error))? {
        let entry = entry.map_err(|error| durable::name_error("read", folder, error))?;
        if entry.file_type().map_err(|error| durable::name_error("read", &entry.path(), error))?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    durable::sync_folder(folder)
}
