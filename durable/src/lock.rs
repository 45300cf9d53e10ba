use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A whole-file lock, given back when dropped or when the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a lock was not to be had.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it.
    Held(PathBuf),
    /// The lock file cannot be opened.
    File(io::Error),
}

impl Lock {
    /// Takes the lock or says at once who is in the way; never waits.
    ///
    /// # Errors
    /// [`LockError::Held`] while another process has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let file = open(path).map_err(|error| LockError::File(super::name_error("open", path, error)))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(LockError::File(super::name_error("lock", path, error))),
        }
    }

    /// Whether somebody holds the lock at this moment. A missing file is held by nobody.
    pub fn is_held(path: &Path) -> bool {
        let Ok(file) = OpenOptions::new().read(true).open(path) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}
