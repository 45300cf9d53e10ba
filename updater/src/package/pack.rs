//! The writer of packages. The same inputs give the same bytes, anywhere: entries in a fixed order, times from
//! `created`, no owner, one compressor.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use protocol::Timestamp;
use protocol::signing::PrivateKey;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::limits::Limits;
use super::manifest::{Manifest, ManifestFile, ManifestMigration};
use super::migrations;
use super::refusal::Refusal;
use super::verify::{Trust, verify};
use super::{FILES, MANIFEST, MIGRATIONS, SIGNATURE};
use crate::version_directory::hash_file;

/// What goes into a package beside its manifest.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Path in the version directory, where the file lies, and whether it is a program.
    pub files: Vec<(String, PathBuf, bool)>,
    /// Name, and where the text lies.
    pub migrations: Vec<(String, PathBuf)>,
}

#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error(transparent)]
    File(#[from] io::Error),
    /// It breaks a rule by which plants would refuse it.
    #[error("no plant would take this package: {0}")]
    Refused(#[from] Refusal),
    #[error("could not write the package: {0}")]
    Zip(#[from] zip::result::ZipError),
}

/// A package as it was written.
#[derive(Clone, Debug)]
pub struct Packed {
    pub manifest: Manifest,
    pub manifest_sha256: String,
    pub bytes: u64,
}

const LEVEL: i64 = 6;
/// Written and read through a buffer of this size.
const BUFFER_BYTES: usize = 256 << 10;

/// Hashes `contents` into `manifest` (its lists of files and migrations are replaced), signs it, and writes the package.
/// `each` is told how many bytes of the contents have been packed.
///
/// # Errors
/// [`PackError`]; then there is no package at `out` that was not there before.
pub fn pack(
    mut manifest: Manifest,
    contents: &Contents,
    key: &PrivateKey,
    out: &Path,
    mut each: impl FnMut(u64),
) -> Result<Packed, PackError> {
    let mut contents = contents.clone();
    contents.files.sort();
    contents.migrations.sort();
    manifest.files = Vec::new();
    for (path, file, executable) in &contents.files {
        let (sha256, size) = hash_file(file)?;
        manifest.files.push(ManifestFile { path: path.clone(), sha256, size, executable: *executable });
    }
    manifest.migrations = Vec::new();
    for (name, file) in &contents.migrations {
        manifest.migrations.push(ManifestMigration { name: name.clone(), sha256: hash_file(file)?.0 });
    }
    // What is wrong is said before the long work.
    manifest.check()?;
    migrations::check_names(manifest.migrations.iter().map(|migration| migration.name.as_str()))?;

    let raw = manifest.to_json();
    let temporary = out.with_extension("zip.part");
    let written = (|| {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&temporary);
        let file = file.map_err(|error| durable::name_error("write", &temporary, error))?;
        let mut zip = ZipWriter::new(BufWriter::with_capacity(BUFFER_BYTES, file));
        let time = dos_time(manifest.created);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(LEVEL))
            .last_modified_time(time);
        let plain = options.unix_permissions(0o644);
        zip.start_file(MANIFEST, plain)?;
        zip.write_all(&raw)?;
        zip.start_file(SIGNATURE, plain.compression_method(CompressionMethod::Stored).compression_level(None))?;
        zip.write_all(&key.sign_reproducibly(&raw))?;
        for (path, file, executable) in &contents.files {
            zip.start_file(
                format!("{FILES}{path}"),
                options.unix_permissions(if *executable { 0o755 } else { 0o644 }),
            )?;
            copy_file(file, &mut zip, &mut each)?;
        }
        for (name, file) in &contents.migrations {
            zip.start_file(format!("{MIGRATIONS}{name}"), plain)?;
            copy_file(file, &mut zip, &mut each)?;
        }
        let mut file = zip.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        file.rewind()?;
        // What plants will do with it; also finds a file that changed while it was packed.
        let trust = Trust { keys: vec![key.public_key()], required: 1 };
        let bytes = file.metadata()?.len();
        let verified = verify(file, &trust, &Limits::DEFAULT, None)?;
        let packed =
            Packed { manifest_sha256: verified.manifest_sha256().to_owned(), manifest: manifest.clone(), bytes };
        durable::rename(&temporary, out)?;
        Ok(packed)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn copy_file(path: &Path, zip: &mut impl io::Write, each: &mut impl FnMut(u64)) -> io::Result<()> {
    read_pieces(path, |bytes| {
        each(bytes.len() as u64);
        zip.write_all(bytes)
    })
}

fn read_pieces(path: &Path, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let named = |error| durable::name_error("read", path, error);
    let mut file = File::open(path).map_err(named)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer).map_err(named)? {
            0 => return Ok(()),
            count => each(&buffer[..count])?,
        }
    }
}

/// Two seconds are the finest that a zip tells, and 1980 the earliest.
fn dos_time(time: Timestamp) -> DateTime {
    let text = time.with_millis();
    let number =
        |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<u16>().ok()).unwrap_or(0);
    let [month, day, hour, minute, second] = [5..7, 8..10, 11..13, 14..16, 17..19].map(|range| number(range) as u8);
    DateTime::from_date_and_time(number(0..4), month, day, hour, minute, second).unwrap_or_default()
}
