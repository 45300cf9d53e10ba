//! Does HQ hold every reading of the plant exactly once?

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use config::InstallRoot;
use flate2::read::MultiGzDecoder;
use protocol::export::EpochRange;
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

/// By its identity, the epoch that it was born in and its `seq`: how many readings the archives hold, each once, and how
/// many of those that the store has up to the last one in them they lack.
///
/// # Errors
/// A reading that is there twice, or an archive that cannot be read.
pub fn check_by_epoch(archives: &[PathBuf], root: &InstallRoot) -> Result<(u64, u64), String> {
    let mut held = HashSet::new();
    for archive in archives {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", archive.display());
        let record = std::fs::read(archive.with_extension("json")).map_err(|error| named(&error))?;
        let record: serde_json::Value = serde_json::from_slice(&record).map_err(|error| named(&error))?;
        let ranges: Vec<EpochRange> =
            serde_json::from_value(record["epochs"].clone()).map_err(|error| named(&error))?;
        for line in lines(archive)? {
            let line: serde_json::Value = serde_json::from_str(&line).map_err(|error| named(&error))?;
            let seq = line["seq"].as_u64().ok_or_else(|| named(&"a line without seq"))?;
            let range = ranges.iter().find(|range| (range.first_seq..=range.last_seq).contains(&seq));
            let epoch = range.ok_or_else(|| named(&format!("seq {seq} is of no epoch")))?.epoch.clone();
            if !held.insert((epoch.clone(), seq)) {
                return Err(named(&format!("reading {seq} of epoch {epoch} is there twice")));
            }
        }
    }
    let database = ActiveDatabase::of(root).map_err(|error| error.to_string())?;
    let mut store = database.open(root.path()).map_err(|error| error.to_string())?;
    let head = store.head().map_err(|error| error.to_string())?;
    let ranges = head.epoch_ranges(head.first_seq, head.last_seq);
    let last = ranges.iter().rev().find_map(|range| {
        let seqs = (range.first_seq..=range.last_seq).rev();
        seqs.clone().find(|seq| held.contains(&(range.epoch.clone(), *seq)))
    });
    let through = last.unwrap_or(0);
    let all = ranges.iter().flat_map(|range| (range.first_seq..=range.last_seq).map(|seq| (range.epoch.clone(), seq)));
    let missing = all.filter(|(_, seq)| *seq <= through).filter(|identity| !held.contains(identity)).count();
    Ok((held.len() as u64, missing as u64))
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
