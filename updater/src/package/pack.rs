//! The writer of packages. The same inputs give the same bytes, anywhere: entries in a fixed order, times from
//! `created`, no owner, one compressor.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use protocol::Timestamp;
use protocol::signing::PrivateKey;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use super::limits::Limits;
use super::manifest::{Manifest, ManifestFile, ManifestMigration};
use super::migrations;
use super::refusal::{Code, Refusal};
use super::verify::{FurtherSignature, Look, Trust, look, verify};
use super::{FILES, MANIFEST, MIGRATIONS, MORE_SIGNATURES, SIGNATURE};
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

/// Hashes `contents` into `manifest` (its lists of files and migrations are replaced), signs it with every key, and writes
/// the package. `each` is told how many bytes of the contents have been packed.
///
/// # Errors
/// [`PackError`]; then there is no package at `out` that was not there before.
pub fn pack(
    mut manifest: Manifest,
    contents: &Contents,
    keys: &[PrivateKey],
    out: &Path,
    mut each: impl FnMut(u64),
) -> Result<Packed, PackError> {
    let (first, further) = keys.split_first().expect("a package is signed");
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
        zip.write_all(&first.sign_reproducibly(&raw))?;
        if !further.is_empty() {
            zip.start_file(MORE_SIGNATURES, plain)?;
            zip.write_all(&signatures_json(further.iter().map(|key| FurtherSignature::of(key, &raw))))?;
        }
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
        let trust = Trust { keys: keys.iter().map(PrivateKey::public_key).collect(), required: keys.len() };
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

/// Adds a signature to a package that somebody else has signed; whether plants then have enough of them is theirs to say.
///
/// # Errors
/// [`PackError`]; then the package is as it was.
pub fn add_signature(package: &Path, key: &PrivateKey) -> Result<usize, PackError> {
    let named = |error| durable::name_error("read", package, error);
    let Look { manifest, signed, .. } = look(File::open(package).map_err(named)?, &Limits::DEFAULT)?;
    if key.public_key().verifies(&signed.raw, &signed.signature) {
        let detail = "manifest.sig is of this key already";
        return Err(Refusal::new(Code::NotEnoughSignatures, detail).into());
    }
    let added = FurtherSignature::of(key, &signed.raw);
    let others = signed.further.into_iter().filter(|further| further.key_id != added.key_id);
    let mut signatures: Vec<FurtherSignature> = others.collect();
    signatures.push(added);
    // Whoever signs first: the same package.
    signatures.sort_by(|one, other| one.key_id.cmp(&other.key_id));
    let count = signatures.len() + 1;
    let temporary = package.with_extension("zip.part");
    let written = (|| {
        let mut old = ZipArchive::new(io::BufReader::with_capacity(BUFFER_BYTES, File::open(package).map_err(named)?))?;
        let new = File::options().read(true).write(true).create(true).truncate(true).open(&temporary);
        let new = new.map_err(|error| durable::name_error("write", &temporary, error))?;
        let mut zip = ZipWriter::new(BufWriter::with_capacity(BUFFER_BYTES, new));
        let time = dos_time(manifest.created);
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        let options = options.compression_level(Some(LEVEL)).last_modified_time(time).unix_permissions(0o644);
        for number in 0..old.len() {
            let entry = old.by_index_raw(number)?;
            let name = entry.name()?.into_owned();
            if name == MORE_SIGNATURES {
                continue;
            }
            zip.raw_copy_file(entry)?;
            if name == SIGNATURE {
                zip.start_file(MORE_SIGNATURES, options)?;
                zip.write_all(&signatures_json(signatures.drain(..)))?;
            }
        }
        let mut file = zip.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        file.rewind()?;
        look(file, &Limits::DEFAULT)?;
        // Windows replaces no file that is open.
        drop(old);
        durable::rename(&temporary, package)?;
        Ok(count)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn signatures_json(signatures: impl Iterator<Item = FurtherSignature>) -> Vec<u8> {
    let signatures: Vec<FurtherSignature> = signatures.collect();
    serde_json::to_vec_pretty(&signatures).expect("plain strings serialise")
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
