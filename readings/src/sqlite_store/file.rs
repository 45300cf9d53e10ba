//! How a SQLite database file is opened, by whichever program.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, MAIN_DB, OpenFlags};

/// SQLite's way to the files of Windows that takes longer paths than its usual one, and locks files as that one does.
const LONG_PATHS: &str = "win32-longpath";
/// Windows takes no more than 260 characters of a path that is not written out as one without limits; SQLite adds to the
/// name what its log and journal end with.
const LONGEST: usize = 240;
/// So long a scanner may hold a file.
const HELD: Duration = Duration::from_secs(8);

/// Opens the file, waits for `busy` where somebody else writes, and makes it where it is missing unless `must_exist`.
///
/// # Errors
/// Those of SQLite.
pub fn open(path: &Path, busy: Duration, must_exist: bool) -> rusqlite::Result<Connection> {
    let create = if must_exist { OpenFlags::empty() } else { OpenFlags::SQLITE_OPEN_CREATE };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let open = || match verbatim(path) {
        Some(verbatim) => Connection::open_with_flags_and_vfs(verbatim, flags, LONG_PATHS),
        None => Connection::open_with_flags(path, flags),
    };
    let mut connection = open()?;
    // A file that a virus scanner holds on Windows is opened for reading alone, without a word.
    let deadline = Instant::now() + HELD;
    while cfg!(windows) && connection.is_readonly(MAIN_DB)? && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        connection = open()?;
    }
    connection.busy_timeout(busy)?;
    Ok(connection)
}

/// A path that is too long for Windows, written so that it takes it. Files of networks are not named so.
fn verbatim(path: &Path) -> Option<String> {
    if !cfg!(windows) {
        return None;
    }
    let absolute = std::path::absolute(path).ok()?.to_str()?.to_owned();
    let is_long = absolute.encode_utf16().count() > LONGEST && !absolute.starts_with(r"\\");
    is_long.then(|| format!(r"\\?\{absolute}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_long_path_is_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join(["Завод № 1 with spaces"; 16].iter().collect::<PathBuf>());
        std::fs::create_dir_all(&deep).unwrap();
        let file = deep.join("plant.db");
        assert!(file.as_os_str().len() > 300 && open(&file, Duration::ZERO, true).is_err());
        let connection = open(&file, Duration::ZERO, false).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE readings (value REAL); INSERT INTO readings VALUES (1.5)").unwrap();
        let again = open(&file, Duration::ZERO, true).unwrap();
        let value: f64 = again.query_row("SELECT value FROM readings", [], |row| row.get(0)).unwrap();
        assert!(value == 1.5 && deep.join("plant.db-wal").exists());
    }
}
