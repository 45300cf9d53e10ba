//! Which files go into a package, and under which names.

use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use protocol::Failure;
use protocol::signing::hex;
use sha2::{Digest as _, Sha256};
use updater::package::{Contents, ManifestFile};

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
    let executable = is_executable(&path, &kind);
    found.push((parts.join("/"), path, executable));
    Ok(())
}

#[cfg(unix)]
fn is_executable(path: &Path, metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0 || is_windows_program(path)
}

#[cfg(not(unix))]
fn is_executable(path: &Path, _: &fs::Metadata) -> bool {
    is_windows_program(path)
}

fn is_windows_program(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("exe"))
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
        let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
        let named = |error| durable::name_error("read", file, error);
        let mut content = fs::File::open(file).map_err(named)?;
        loop {
            let count = content.read(&mut buffer).map_err(named)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            size += count as u64;
        }
        listed.push(ManifestFile { path: path.clone(), sha256: hex(&hash.finalize()), size, executable: *executable });
    }
    Ok(listed)
}
