//! Does HQ hold every reading of the plant exactly once?

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use config::InstallRoot;
use flate2::read::MultiGzDecoder;
use readings::{Span, write_line};
use updater::database::ActiveDatabase;

/// The lines of an archive.
///
/// # Errors
/// In words, if it is no gzip.
pub fn lines(archive: &Path) -> Result<Vec<String>, String> {
    let file = std::fs::File::open(archive).map_err(|error| format!("{}: {error}", archive.display()))?;
    let lines = BufReader::new(MultiGzDecoder::new(file)).lines();
    lines.collect::<Result<_, _>>().map_err(|error| format!("{}: {error}", archive.display()))
}

/// Compares the archives, line by line, with what the store has up to the last reading in them, and returns how many
/// readings that are.
///
/// # Errors
/// What is missing, doubled or different.
pub fn check(archives: &[PathBuf], root: &InstallRoot) -> Result<u64, String> {
    let mut pulled = Vec::new();
    for archive in archives {
        pulled.extend(lines(archive)?);
    }
    let database = ActiveDatabase::of(root).map_err(|error| error.to_string())?;
    let mut store = database.open(root.path()).map_err(|error| error.to_string())?;
    let head = store.head().map_err(|error| error.to_string())?;
    let through = (head.first_seq + pulled.len() as u64).saturating_sub(1);
    let mut stored = Vec::new();
    let mut line = Vec::new();
    store
        .read(Span::all(head.first_seq, through), &mut |row| {
            line.clear();
            write_line(&mut line, row);
            stored.push(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
        })
        .map_err(|error| error.to_string())?;
    match pulled.iter().zip(&stored).position(|(pulled, stored)| pulled != stored) {
        Some(at) => Err(format!("line {}: HQ has {}, the plant stored {}", at + 1, pulled[at], stored[at])),
        None if pulled.len() > stored.len() => {
            Err(format!("HQ has {} readings, the plant stored {}", pulled.len(), stored.len()))
        }
        None => Ok(pulled.len() as u64),
    }
}
