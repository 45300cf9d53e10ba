//! `backups/backup_v<version>_<time>.zip`: the running version as it was before an update, for people.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use config::InstallRoot;
use protocol::{Failure, Timestamp};
use semver::Version;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::lifeline;
use crate::patch::remove_tree;
use crate::version_directory::{TreeFile, read_tree};

const KEPT: usize = 5;
/// A program packs by half at any level; the operator waits for this.
const LEVEL: i64 = 1;

/// Writes the backup and removes all but the newest.
///
/// # Errors
/// Those of the disk; then nothing is left of it.
pub fn write(root: &InstallRoot, version: &Version, directory: &Path) -> Result<PathBuf, Failure> {
    let folder = root.backups();
    fs::create_dir_all(&folder).map_err(|error| durable::name_error("create", &folder, error))?;
    remove_parts(&folder)?;
    let backup = folder.join(format!("backup_v{version}_{}.zip", seconds(Timestamp::now())));
    let part = backup.with_extension("zip.part");
    let outcome = pack(directory, &read_tree(directory)?, &part);
    if let Err(error) = outcome {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    durable::rename(&part, &backup)?;
    prune(&folder, &backup)?;
    Ok(backup)
}

fn pack(directory: &Path, files: &[TreeFile], part: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::from(durable::name_error("write the backup", part, error));
    let mut zip = ZipWriter::new(BufWriter::with_capacity(256 << 10, File::create(part).map_err(failed)?));
    let options =
        SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).compression_level(Some(LEVEL));
    let mut buffer = vec![0; 256 << 10];
    for file in files {
        let path = directory.join(&file.path);
        let mut content = File::open(&path).map_err(|error| durable::name_error("read", &path, error))?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        zip.start_file(&file.path, options.unix_permissions(mode)).map_err(|error| failed(error.into()))?;
        loop {
            lifeline::check()?;
            match content.read(&mut buffer).map_err(|error| durable::name_error("read", &path, error))? {
                0 => break,
                count => zip.write_all(&buffer[..count]).map_err(failed)?,
            }
        }
    }
    let file = zip.finish().map_err(|error| failed(error.into()))?.into_inner();
    file.map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all()).map_err(failed)
}

/// What a killed attempt has left.
fn remove_parts(folder: &Path) -> io::Result<()> {
    for path in listed(folder)? {
        if path.extension().is_some_and(|ending| ending == "part") {
            remove_tree(&path)?;
        }
    }
    Ok(())
}

/// All but the newest, and never the one just written, whatever the clock said then.
fn prune(folder: &Path, written: &Path) -> io::Result<()> {
    let mut backups: Vec<(String, PathBuf)> = listed(folder)?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "zip") && path != written)
        .filter_map(|path| {
            let name = path.file_stem()?.to_string_lossy().into_owned();
            // By time, whatever the versions.
            Some((name.rsplit_once('_')?.1.to_owned(), path))
        })
        .collect();
    backups.sort();
    let surplus = (backups.len() + 1).saturating_sub(KEPT);
    backups.drain(..surplus).try_for_each(|(_, path)| durable::remove(&path))
}

fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let named = |error| durable::name_error("read", folder, error);
    fs::read_dir(folder).map_err(named)?.map(|entry| Ok(entry.map_err(named)?.path())).collect()
}

/// `20260222T101000Z`.
fn seconds(time: Timestamp) -> String {
    let name = time.file_name();
    name.split('.').next().map(|seconds| format!("{seconds}Z")).unwrap_or_default()
}
