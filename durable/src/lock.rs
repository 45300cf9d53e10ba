use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    /// Takes the lock or says who is in the way. [`Lock::is_held`] touches the lock for an instant, so a refusal only
    /// counts once it has lasted for half a second.
    ///
    /// # Errors
    /// [`LockError::Held`] while another process has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let file = open(path).map_err(|error| LockError::File(super::name_error("open", path, error)))?;
        let deadline = Instant::now() + Duration::from_millis(500);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20))
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::Held(path.to_owned())),
                Err(TryLockError::Error(error)) => return Err(LockError::File(super::name_error("lock", path, error))),
            }
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
