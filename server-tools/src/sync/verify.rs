//! `sync_client verify`: are stored archives what their records say?

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::export::{MemberReader, Whole};
use protocol::signing::hex;
use protocol::{Failure, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::archive::read_record;

/// Checks every archive in `paths` (files, or folders with all in them) and prints a line for each.
///
/// # Errors
/// The first mismatch, once all have been looked at; or a path that cannot be read.
pub fn verify(paths: &[PathBuf], as_json: bool) -> Result<(), Failure> {
    let mut archives = Vec::new();
    for path in paths {
        collect(path, &mut archives)?;
    }
    archives.sort();
    archives.dedup();
    if archives.is_empty() {
        return Err(Failure::usage("there is no archive in what was named"));
    }
    let bar = if as_json { ProgressBar::hidden() } else { ProgressBar::new(archives.len() as u64) };
    bar.set_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} archives").unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut verdicts = Vec::new();
    for archive in &archives {
        verdicts.push((archive, check(archive)));
        bar.inc(1);
    }
    bar.finish_and_clear();
    if as_json {
        let rows = verdicts.iter().map(|(archive, verdict)| match verdict {
            Ok(readings) => json!({ "archive": archive, "ok": true, "record_count": readings }),
            Err(failure) => json!({ "archive": archive, "ok": false, "error": failure.message }),
        });
        println!("{}", json!(rows.collect::<Vec<_>>()));
    } else {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["archive", "readings", "verdict"]);
        for (archive, verdict) in &verdicts {
            let (readings, word) = match verdict {
                Ok(readings) => (readings.to_string(), "good".to_owned()),
                Err(failure) => ("–".to_owned(), failure.message.clone()),
            };
            table.add_row([archive.display().to_string(), readings, word]);
        }
        println!("{table}");
    }
    let bad = verdicts.iter().filter(|(_, verdict)| verdict.is_err()).count();
    match verdicts.into_iter().find_map(|(archive, verdict)| verdict.err().map(|failure| (archive, failure))) {
        None => Ok(()),
        Some((archive, failure)) => {
            let message = format!(
                "{bad} of {} archives are not as recorded, {} among them: {}",
                archives.len(),
                archive.display(),
                failure.message
            );
            Err(Failure { message, ..failure })
        }
    }
}

fn collect(path: &Path, archives: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !path.exists() {
        return Err(Failure::usage(format!("{} does not exist", path.display())));
    }
    if !path.is_dir() {
        archives.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(|error| durable::name_error("read", path, error))? {
        let path = entry.map_err(|error| durable::name_error("read", path, error))?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        let is_record =
            || path.file_stem().and_then(|stem| stem.to_str()).and_then(Timestamp::parse_file_name).is_some();
        match ending {
            Some("gz") => archives.push(path),
            // An archive that is gone is missed by its record.
            Some("json") if is_record() => archives.push(path.with_extension("gz")),
            _ if path.is_dir() => collect(&path, archives)?,
            _ => {}
        }
    }
    Ok(())
}

/// Its number of readings.
fn check(archive: &Path) -> Result<u64, Failure> {
    let record = read_record(archive)?.ok_or_else(|| Failure::integrity("it has no record beside it"))?;
    let named = |error| durable::name_error("read", archive, error);
    let mut file = match File::open(archive) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::integrity("it is gone; its record is still there"));
        }
        opened => opened.map_err(named)?,
    };
    let (mut hash, mut members) = (Sha256::new(), MemberReader::new(Whole::default()));
    let mut bytes = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut bytes).map_err(named)?;
        if count == 0 {
            break;
        }
        hash.update(&bytes[..count]);
        members.read(&bytes[..count], |_| ()).map_err(Failure::integrity)?;
    }
    if !members.is_at_member_end() {
        return Err(Failure::integrity("it ends in the middle of a gzip member"));
    }
    if members.whole().lines != record.export.record_count {
        let (found, expected) = (members.whole().lines, record.export.record_count);
        return Err(Failure::integrity(format!("it holds {found} readings where its record says {expected}")));
    }
    match hex(&hash.finalize()) == record.sha256 {
        true => Ok(members.whole().lines),
        false => Err(Failure::integrity("its SHA-256 is not the recorded one")),
    }
}
