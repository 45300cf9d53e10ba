//! The one way a file is replaced or locked here.
//!
//! [`replace`] is given a path and bytes, and when it returns the file holds exactly these bytes, also after a power
//! cut; killed at any instant it leaves the old file or the new one, never a mixture, and at worst a stray
//! `.<name>.new` beside it that the next replace overwrites. [`Lock`] is held for as long as the process lives and
//! is given back by the operating system however it ends.

mod lock;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use lock::{Lock, LockError};

/// Who may read a file that is written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// As the process's umask says.
    Shared,
    /// Its owner alone (mode 0600; on Windows the folder's ACL decides).
    Private,
}

/// Replaces `path` by `bytes`: temporary file, fsync, rename, fsync of the folder.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let temporary = sibling(path, ".new");
    let named = |error| name_error("write", path, error);
    let mut file = create(&temporary, access).map_err(named)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(named)?;
    drop(file);
    rename(&temporary, path)
}

/// Creates `path` with `bytes`, durably, and refuses to touch a file that is there already. Killed half-way it leaves no
/// `path`.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if it exists; else those of the file system, with the path in the message.
pub fn create_new(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let named = |error| name_error("create", path, error);
    let temporary = sibling(path, ".new");
    let mut file = create(&temporary, access).map_err(named)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(named)?;
    drop(file);
    // A link, unlike a rename, does not replace what is there.
    let linked = fs::hard_link(&temporary, path);
    // Made it is, whatever becomes of its other name.
    let _ = patiently(|| fs::remove_file(&temporary));
    linked.map_err(named)?;
    sync_folder_of(path)
}

/// Renames within one file system, durably: when it returns, the new name survives a power cut. On Windows a target that is
/// read-only is replaced all the same, as on Unix.
///
/// # Errors
/// Those of the file system, with both paths in the message.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let renamed = patiently(|| {
        fs::rename(from, to).or_else(|error| match make_writable(to) {
            Ok(true) => fs::rename(from, to),
            _ => Err(error),
        })
    });
    renamed.map_err(|error| name_error("rename to", to, error))?;
    sync_folder_of(to)
}

/// Tries again, for up to eight seconds, what is refused because a virus scanner or the like holds the file, as on Windows
/// they do for a moment after it was made. For whoever opens a file himself; all that is done here does it.
///
/// # Errors
/// Those of `attempt`.
pub fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const PAUSES: &[u64] = if cfg!(windows) { &[50, 100, 250, 600, 1000, 1500, 2000, 2500] } else { &[] };
    for milliseconds in PAUSES {
        match attempt() {
            Err(error) if is_held(&error) => std::thread::sleep(Duration::from_millis(*milliseconds)),
            ended => return ended,
        }
    }
    attempt().map_err(|error| match cfg!(windows) && is_held(&error) {
        true => {
            io::Error::new(error.kind(), format!("{error}; another program holds it, a virus scanner for instance"))
        }
        false => error,
    })
}

/// Of Windows alone: access denied, a sharing or a lock violation.
fn is_held(error: &io::Error) -> bool {
    const SHARING_VIOLATION: i32 = 32;
    const LOCK_VIOLATION: i32 = 33;
    error.kind() == io::ErrorKind::PermissionDenied
        || matches!(error.raw_os_error(), Some(SHARING_VIOLATION | LOCK_VIOLATION))
}

/// Copies a file durably, with its permissions. Killed half-way it leaves a part under the name, which only then is to
/// become one that counts.
///
/// # Errors
/// Those of the file system, with the target's path in the message.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    patiently(|| fs::copy(from, to)).map_err(|error| name_error("copy to", to, error))?;
    flush(to)
}

/// What was written to a file survives a power cut from here on.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn flush(path: &Path) -> io::Result<()> {
    let flushed = patiently(|| {
        // Windows flushes only what may be written to, and what was read-only is so in its copy.
        if cfg!(windows) {
            make_writable(path)?;
        }
        OpenOptions::new().read(true).write(cfg!(windows)).open(path)?.sync_all()
    });
    flushed.map_err(|error| name_error("flush", path, error))
}

/// Removes a folder with all that is in it, or a file; one that is not there is no error.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = patiently(|| match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_dir() => fs::remove_file(path),
        _ => fs::remove_dir_all(path),
    });
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(name_error("remove", path, error)),
        // Also of one that is gone already: whoever removed it may have been killed before this.
        _ if path.parent().is_none_or(Path::exists) => sync_folder_of(path),
        _ => Ok(()),
    }
}

/// Takes the read-only attribute of Windows away, which would keep a file from being replaced; whether it was there. Not a
/// right of Unix.
fn make_writable(path: &Path) -> io::Result<bool> {
    if !cfg!(windows) {
        return Ok(false);
    }
    let mut permissions = fs::metadata(path)?.permissions();
    let was_readonly = permissions.readonly();
    if was_readonly {
        #[allow(clippy::permissions_set_readonly_false, reason = "of Windows, where it opens the file to nobody else")]
        permissions.set_readonly(false);
        fs::set_permissions(path, permissions)?;
    }
    Ok(was_readonly)
}

/// Removes a file, durably; one that is not there is no error.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn remove(path: &Path) -> io::Result<()> {
    match patiently(|| fs::remove_file(path)) {
        Ok(()) => sync_folder_of(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(name_error("remove", path, error)),
    }
}

/// Makes the entries of the folder that holds `path` durable.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
        _ => sync_folder(Path::new(".")),
    }
}

/// Makes the entries of `folder` durable. Windows has no such call; NTFS journals its entries itself.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| name_error("sync", folder, error))
}

/// Room on the file system that holds `path`, in bytes, as far as this user may use it.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    fs4::available_space(path).map_err(|error| name_error("look for room at", path, error))
}

/// By which whoever watches a file sees that it has changed: when it last did, and its length. `None` if it is not there.
pub type Stamp = Option<(SystemTime, u64)>;

pub fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Reads a file that another program may have laid there: what is no plain file, or is larger than `at_most`, is refused
/// without being waited for.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn read_plain(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    let named = |error| name_error("read", path, error);
    let mut bytes = Vec::new();
    open_plain(path)?.take(at_most + 1).read_to_end(&mut bytes).map_err(named)?;
    match bytes.len() as u64 > at_most {
        true => Err(named(io::Error::other(format!("it has more than {at_most} bytes")))),
        false => Ok(bytes),
    }
}

/// Opens a file that another program may have laid there: no pipe that nobody writes to, no link to somewhere else.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn open_plain(path: &Path) -> io::Result<File> {
    let named = |error| name_error("open", path, error);
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = patiently(|| options.open(path)).map_err(named)?;
    match file.metadata().map_err(named)?.is_file() {
        true => Ok(file),
        false => Err(named(io::Error::other("it is no plain file"))),
    }
}

/// Adds what was tried and the path to an error of the file system, which by itself says neither.
pub fn name_error(operation: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("could not {operation} {}: {error}", path.display()))
}

fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}

fn create(path: &Path, access: Access) -> io::Result<File> {
    // A leftover may carry other permissions: it is removed, not reused.
    if let Err(error) = patiently(|| fs::remove_file(path))
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access == Access::Private {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = access;
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_holds_the_new_bytes_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        replace(&path, b"one", Access::Shared).unwrap();
        replace(&path, b"two", Access::Private).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_failed_replace_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        replace(&path, b"old", Access::Shared).unwrap();
        // A folder in the temporary file's place makes the first step fail, for root too.
        fs::create_dir(folder.path().join(".state.json.new")).unwrap();
        let error = replace(&path, b"new", Access::Shared).unwrap_err();
        assert!(error.to_string().contains("state.json"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_file_that_is_there_is_never_created_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private.pem");
        create_new(&path, b"first", Access::Private).unwrap();
        assert_eq!(create_new(&path, b"second", Access::Private).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn a_lock_is_held_once_and_freed_with_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog.lock");
        let held = Lock::take(&path).unwrap();
        assert!(matches!(Lock::take(&path), Err(LockError::Held(_))));
        assert!(Lock::is_held(&path));
        drop(held);
        assert!(!Lock::is_held(&path));
        Lock::take(&path).unwrap();
    }

    #[test]
    fn whoever_only_asks_keeps_nobody_from_taking_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog.lock");
        drop(Lock::take(&path).unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    Lock::is_held(&path);
                    // Somebody who asks all the time, but does not hold on to it.
                    std::thread::yield_now();
                }
            });
            for _ in 0..200 {
                Lock::take(&path).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    /// As a virus scanner holds a file: others may read it, and nobody may replace it.
    #[cfg(windows)]
    fn hold(path: &Path) -> File {
        use std::os::windows::fs::OpenOptionsExt as _;
        const FILE_SHARE_READ: u32 = 1;
        File::options().read(true).share_mode(FILE_SHARE_READ).open(path).unwrap()
    }

    #[cfg(windows)]
    #[test]
    fn a_file_that_a_scanner_holds_for_a_moment_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        replace(&path, b"old", Access::Shared).unwrap();
        let held = hold(&path);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(500));
                drop(held);
            });
            replace(&path, b"new", Access::Shared).unwrap();
        });
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[cfg(windows)]
    #[test]
    fn a_file_that_a_scanner_does_not_let_go_of_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        replace(&path, b"old", Access::Shared).unwrap();
        let held = hold(&path);
        let started = std::time::Instant::now();
        let error = replace(&path, b"new", Access::Shared).unwrap_err();
        assert!(error.to_string().contains("state.json"), "{error}");
        assert!((6..15).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        drop(held);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace(&path, b"new", Access::Shared).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_read_only_is_replaced_and_copied() {
        let folder = tempfile::tempdir().unwrap();
        let [path, copied] = ["state.json", "copy.json"].map(|name| folder.path().join(name));
        replace(&path, b"old", Access::Shared).unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        copy(&path, &copied).unwrap();
        replace(&path, b"new", Access::Shared).unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&copied).unwrap()), (b"new".to_vec(), b"old".to_vec()));
    }

    #[test]
    fn long_paths_with_spaces_and_other_alphabets_are_paths() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join(["Завод № 1 with spaces"; 16].iter().collect::<PathBuf>());
        fs::create_dir_all(&deep).unwrap();
        let path = deep.join("state.json");
        assert!(path.as_os_str().len() > 300);
        replace(&path, b"old", Access::Shared).unwrap();
        replace(&path, b"new", Access::Private).unwrap();
        copy(&path, &deep.join("copy.json")).unwrap();
        assert_eq!(fs::read(deep.join("copy.json")).unwrap(), b"new");
    }
}
