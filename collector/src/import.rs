//! `collector import`: history into the store, exactly once, while the collector runs or not.
//!
//! First a file's SHA-256 is taken and every line is checked, so that a bad line stops the import before anything of the
//! file is stored. Then it is stored under a writer named after that hash, whose position
//! is the number of lines stored: killed and started again it goes on there, and the same file again is done at once.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use config::{InstallRoot, Settings};
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use protocol::signing::hex;
use protocol::{Failure, Timestamp};
use readings::{Batch, Quality, Reading, Store, parse_line};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use updater::boot_record::{BootRecord, Phase};
use updater::database::ActiveDatabase;

use crate::WRITER;
use crate::spool::Spool;

const ROLLED_UP_EVERY: u64 = 200_000;
const LINES_AT_ONCE: usize = 5_000;

/// Imports `files` one after the other.
///
/// # Errors
/// A line that is no reading, with file and line; or those of the store.
pub fn import(root: &InstallRoot, files: &[std::path::PathBuf], quiet: bool) -> Result<(), Failure> {
    let settings = Settings::read(root)?;
    let _database = hold_database(root)?;
    let mut store = ActiveDatabase::of(root)?.open(root.path())?;
    refuse_if_set_back(root, store.as_mut(), &settings)?;
    for path in files {
        let checked = check(path, quiet)?;
        let stored = store_file(store.as_mut(), path, &checked, quiet)?;
        if !quiet {
            let before = checked.readings - stored;
            let again = if before > 0 { format!(" ({before} had been imported before)") } else { String::new() };
            println!("{}: {stored} readings imported{again}", path.display());
        }
    }
    Ok(())
}

/// An update on its way to another database would leave behind what is imported meanwhile; so each waits for the other.
fn hold_database(root: &InstallRoot) -> Result<durable::Lock, Failure> {
    let updating = || Failure::try_later("an update is under way; import again when it is over");
    let lock = durable::Lock::take(&root.database_lock()).map_err(|error| match error {
        durable::LockError::Held(_) => {
            Failure::try_later("another import, or an update, is under way; try again later")
        }
        durable::LockError::File(error) => error.into(),
    })?;
    match BootRecord::read(&root.boot_record()) {
        // Approved, but not there yet: the update will find the lock taken.
        Ok(record) if matches!(record.phase, Phase::Committed | Phase::Preparing) => Ok(lock),
        Ok(_) => Err(updating()),
        Err(error) => Err(Failure::configuration(error)),
    }
}

/// A database that was set back hands out the same places in its order again, until the collector has seen it and begun a
/// new epoch.
fn refuse_if_set_back(root: &InstallRoot, store: &mut dyn Store, settings: &Settings) -> Result<(), Failure> {
    let folder = root.collector_state().join("spool");
    if !folder.exists() {
        return Ok(());
    }
    let spool = Spool::open(&folder, settings.spool_max_bytes, settings.low_disk_reserve_bytes)?;
    let Some(known) = spool.known() else { return Ok(()) };
    if known.epoch == store.head()?.epoch() && store.position(WRITER)? >= known.position {
        return Ok(());
    }
    Err(Failure::try_later(
        "the database was replaced or set back since the collector last stored; let the collector run once, then import",
    ))
}

struct Checked {
    sha256: String,
    readings: u64,
}

fn check(path: &Path, quiet: bool) -> Result<Checked, Failure> {
    let bar = bar(path, "checking", quiet)?;
    let mut hash = Sha256::new();
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut plain = bar.wrap_read(BufReader::new(file));
    let mut bytes = [0; 64 << 10];
    loop {
        let count = plain.read(&mut bytes).map_err(|error| unreadable(path, &error))?;
        if count == 0 {
            break;
        }
        hash.update(&bytes[..count]);
    }
    let mut readings = 0;
    each_reading(path, &mut |_| {
        readings += 1;
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(Checked { sha256: hex(&hash.finalize()), readings })
}

fn store_file(store: &mut dyn Store, path: &Path, checked: &Checked, quiet: bool) -> Result<u64, Failure> {
    let writer = format!("import:{}", checked.sha256);
    let before = store.position(&writer)?;
    let bar = match quiet {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(checked.readings),
    };
    bar.set_style(style("{prefix:20} {bar:30} {pos}/{len} readings {eta}"));
    bar.set_prefix("importing");
    let mut seen = 0;
    let mut position = before;
    let mut batch = Vec::with_capacity(LINES_AT_ONCE);
    let mut flush = |batch: &mut Vec<Reading>, seen: u64| -> Result<(), Failure> {
        if !batch.is_empty() {
            store.append(&Batch { writer: &writer, from: position, to: seen, readings: batch, gaps: &[] })?;
            // Who looks at a trend meanwhile would look through all that is not rolled up.
            if seen / ROLLED_UP_EVERY != position / ROLLED_UP_EVERY {
                while store.roll_up()? {}
            }
            position = seen;
            batch.clear();
            bar.set_position(seen);
        }
        Ok(())
    };
    each_reading(path, &mut |reading| {
        seen += 1;
        if seen > before {
            batch.push(reading);
        }
        if batch.len() == LINES_AT_ONCE { flush(&mut batch, seen) } else { Ok(()) }
    })?;
    flush(&mut batch, seen)?;
    while store.roll_up()? {}
    bar.finish_and_clear();
    Ok(seen - before)
}

/// Calls `each` with every reading of a file, of whichever format it is.
fn each_reading(path: &Path, each: &mut dyn FnMut(Reading) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut file = BufReader::new(File::open(path).map_err(|error| unreadable(path, &error))?);
    let gzip = file.fill_buf().map_err(|error| unreadable(path, &error))?.starts_with(&[0x1f, 0x8b]);
    let mut content: Box<dyn BufRead> = match gzip {
        true => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        false => Box::new(file),
    };
    let json = loop {
        let start = content.fill_buf().map_err(|error| unreadable(path, &error))?;
        match start.first() {
            Some(byte) if byte.is_ascii_whitespace() => content.consume(1),
            first => break first.is_none_or(|byte| *byte == b'{'),
        }
    };
    if json { each_line(path, content, each) } else { each_row(path, content, each) }
}

fn each_line(
    path: &Path,
    mut content: Box<dyn BufRead>,
    each: &mut dyn FnMut(Reading) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if content.read_until(b'\n', &mut line).map_err(|error| unreadable(path, &error))? == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        each(parse_line(&line).map_err(|error| bad_line(path, number, &error))?)?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CsvRow {
    #[serde(rename = "seq", default)]
    _seq: Option<String>,
    time: String,
    tag: String,
    value: Option<f64>,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    quality: Option<u8>,
    #[serde(default)]
    text: Option<String>,
}

fn each_row(
    path: &Path,
    content: Box<dyn BufRead>,
    each: &mut dyn FnMut(Reading) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(content);
    let columns = "columns are time, tag, value, and if you like unit, quality, text";
    let headers = reader.headers().map_err(|error| bad_line(path, 1, &error))?.clone();
    for column in ["time", "tag", "value"] {
        if !headers.iter().any(|header| header == column) {
            return Err(bad_line(path, 1, &format!("the first line names no column `{column}` ({columns})")));
        }
    }
    for record in reader.records() {
        let record = record.map_err(|error| bad_line(path, error.position().map_or(1, csv::Position::line), &error))?;
        let line = record.position().map_or(1, csv::Position::line);
        let row: CsvRow = record
            .deserialize(Some(&headers))
            .map_err(|error| bad_line(path, line, &format!("{error} ({columns})")))?;
        let time = Timestamp::parse(&row.time)
            .map_err(|error| bad_line(path, line, &format!("time `{}`: {error}", row.time)))?;
        if row.tag.is_empty() {
            return Err(bad_line(path, line, &"the tag is empty"));
        }
        let reading = Reading {
            time,
            tag: row.tag.into(),
            value: row.value,
            unit: row.unit.map(Into::into),
            quality: Quality(row.quality.unwrap_or(Quality::GOOD.0)),
            text: row.text.filter(|text| !text.is_empty()),
        };
        each(reading.normalised())?;
    }
    Ok(())
}

fn bad_line(path: &Path, line: u64, what: &impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{}:{line}: {what}; nothing of this file was imported", path.display()))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof) {
        return Failure::integrity(format!(
            "{} is damaged: {error}; nothing of this file was imported",
            path.display()
        ));
    }
    Failure::disk(format!("could not read {}: {error}", path.display()))
}

fn bar(path: &Path, prefix: &'static str, quiet: bool) -> Result<ProgressBar, Failure> {
    let length = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(length) };
    bar.set_style(style("{prefix:20} {bar:30} {bytes}/{total_bytes} {eta}"));
    bar.set_prefix(prefix);
    Ok(bar)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
