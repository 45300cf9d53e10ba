//! `versions/<version>-<hash8>/`: one immutable directory a version, named after what is in it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use protocol::signing::hex;
use sha2::{Digest as _, Sha256};

/// Names the version of the directory it lies in; the one file that the tree hash leaves out.
pub const VERSION_FILE: &str = "version.txt";

/// Room that is left on the disk beside what is laid.
pub const MARGIN_BYTES: u64 = 32 << 20;

/// A file of a tree, as it enters the tree hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeFile {
    /// Relative, with `/` on every platform.
    pub path: String,
    pub executable: bool,
    /// Hex.
    pub sha256: String,
}

/// SHA-256 over the sorted lines `path\0executable\0sha256\n` (executable as `1` or `0`), hex.
pub fn tree_hash(files: &[TreeFile]) -> String {
    let mut lines: Vec<String> = files
        .iter()
        .filter(|file| file.path != VERSION_FILE)
        .map(|file| format!("{}\0{}\0{}\n", file.path, u8::from(file.executable), file.sha256))
        .collect();
    lines.sort();
    hex(&Sha256::digest(lines.concat().as_bytes()))
}

/// The directory's name.
pub fn version_id(version: &str, tree_hash: &str) -> String {
    format!("{version}-{}", &tree_hash[..8])
}

/// Every file below `directory`.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn read_tree(directory: &Path) -> io::Result<Vec<TreeFile>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let absolute = directory.join(&folder);
        let named = |error| durable::name_error("read", &absolute, error);
        for entry in fs::read_dir(&absolute).map_err(named)? {
            let entry = entry.map_err(named)?;
            let relative = folder.join(entry.file_name());
            if entry.file_type().map_err(named)?.is_dir() {
                folders.push(relative);
                continue;
            }
            let path: Vec<_> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            let (sha256, executable) = (hash_file(&entry.path())?.0, is_executable(&entry.path())?);
            files.push(TreeFile { path: path.join("/"), executable, sha256 });
        }
    }
    files.sort();
    Ok(files)
}

/// SHA-256 of a file, hex, and its length in bytes.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn hash_file(path: &Path) -> io::Result<(String, u64)> {
    let named = |error| durable::name_error("read", path, error);
    let mut file = durable::patiently(|| File::open(path)).map_err(named)?;
    let mut hash = Sha256::new();
    let (mut bytes, mut length) = (vec![0; 256 << 10], 0);
    loop {
        let count = file.read(&mut bytes).map_err(named)?;
        if count == 0 {
            return Ok((hex(&hash.finalize()), length));
        }
        hash.update(&bytes[..count]);
        length += count as u64;
    }
}

/// By its mode, or by its name, which is all that Windows goes by.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn is_executable(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path).map_err(|error| durable::name_error("read", path, error))?;
    Ok(has_executable_mode(&metadata) || path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("exe")))
}

#[cfg(unix)]
fn has_executable_mode(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn has_executable_mode(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trees_hash_depends_on_names_modes_and_contents_and_not_on_the_version_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir(folder.path().join("assets")).unwrap();
        write("agent", "a");
        write("assets/logo.svg", "b");
        let hash = || tree_hash(&read_tree(folder.path()).unwrap());
        let first = hash();
        write(VERSION_FILE, "1.0.0");
        assert_eq!(hash(), first);
        write("assets/logo.svg", "c");
        assert_ne!(hash(), first);
        write("assets/logo.svg", "b");
        fs::rename(folder.path().join("agent"), folder.path().join("agent2")).unwrap();
        assert_ne!(hash(), first);
    }

    #[test]
    fn the_tree_hash_is_the_documented_one() {
        let file = |path: &str, executable| TreeFile { path: path.into(), executable, sha256: "ab".into() };
        let expected = hex(&Sha256::digest(b"a/b\x000\x00ab\nagent\x001\x00ab\n"));
        assert_eq!(tree_hash(&[file("agent", true), file("version.txt", false), file("a/b", false)]), expected);
        assert_eq!(version_id("1.2.0", &expected), format!("1.2.0-{}", &expected[..8]));
    }
}
