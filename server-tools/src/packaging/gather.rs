//! Which files go into a package, and under which names.

use std::fs;
use std::path::{Component, Path, PathBuf};

use protocol::Failure;
use updater::package::{Contents, ManifestFile};
use updater::version_directory::{hash_file, is_executable};

/// Path in the version directory, where the file lies, and whether it is a program.
type Found = (String, PathBuf, bool);

/// Each of `named`, from `base`; a folder means all in it.
pub fn files(base: &Path, named: &[PathBuf]) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for name in named {
        let relative = name.strip_prefix(base).unwrap_or(name);
        if relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            let what = "does not lie below the base folder; name it from there, or give another --base";
            return Err(Failure::usage(format!("{} {what}", name.display())));
        }
        let relative: PathBuf = relative.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        walk(base, &relative, &mut found)?;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn walk(base: &Path, relative: &Path, found: &mut Vec<Found>) -> Result<(), Failure> {
    let path = base.join(relative);
    let kind = fs::symlink_metadata(&path).map_err(|error| durable::name_error("read", &path, error))?;
    if kind.is_dir() {
        for entry in fs::read_dir(&path).map_err(|error| durable::name_error("read", &path, error))? {
            let entry = entry.map_err(|error| durable::name_error("read", &path, error))?;
            walk(base, &relative.join(entry.file_name()), found)?;
        }
        return Ok(());
    }
    if !kind.is_file() {
        return Err(Failure::usage(format!(
            "{} is neither a file nor a folder; packages carry no links",
            path.display()
        )));
    }
    let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
    let parts = parts.ok_or_else(|| Failure::usage(format!("the name of {} is no UTF-8", path.display())))?;
    let executable = is_executable(&path)?;
    found.push((parts.join("/"), path, executable));
    Ok(())
}

pub fn migrations(named: &[PathBuf]) -> Result<Vec<(String, PathBuf)>, Failure> {
    let name = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Failure::usage(format!("{} is no migration", path.display())))?;
        Ok((name.to_owned(), path.clone()))
    };
    named.iter().map(name).collect()
}

/// As the manifest lists them; needed before packing, to say what comes out.
pub fn listed(contents: &Contents) -> Result<Vec<ManifestFile>, Failure> {
    let mut listed = Vec::new();
    for (path, file, executable) in &contents.files {
        let (sha256, size) = hash_file(file)?;
        listed.push(ManifestFile { path: path.clone(), sha256, size, executable: *executable });
    }
    Ok(listed)
}
