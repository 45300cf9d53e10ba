//! `backups/backup_v<version>_<time>.zip`: the running version as it was before an update, and in `plantlink-restore.json` what
//! `watchdog restore` has to know of it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use config::InstallRoot;
use protocol::{Failure, Timestamp};
use semver::Version;
use serde::{Deserialize, Serialize};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::boot_record::{BootRecord, Database};
use crate::lifeline;
use crate::version_directory::{TreeFile, read_tree, tree_hash, version_id};

/// `plantlink-restore.json`, which is in no version directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origin {
    pub version: Version,
    /// Tree hash of the files.
    pub tree: String,
    /// The database that it worked with, as the boot record had it.
    pub database: Option<Database>,
    /// Of the keys that were trusted.
    pub keys_version: u64,
}

impl Origin {
    /// Name of the version directory; `None` for a tree that is no hash.
    pub fn id(&self) -> Option<String> {
        let is_hash = self.tree.len() == 64 && self.tree.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| version_id(&self.version.to_string(), &self.tree))
    }
}

pub const ORIGIN: &str = "plantlink-restore.json";
const KEPT: usize = 5;
/// A program packs by half at any level; the operator waits for this.
const LEVEL: i64 = 1;

/// Writes the backup and removes all but the newest.
///
/// # Errors
/// Those of the disk; then nothing is left of it.
pub fn write(root: &InstallRoot, version: &Version, record: &BootRecord) -> Result<PathBuf, Failure> {
    let directory = &root.versions().join(&record.current);
    let folder = root.backups();
    fs::create_dir_all(&folder).map_err(|error| durable::name_error("create", &folder, error))?;
    remove_parts(&folder)?;
    let backup = folder.join(format!("backup_v{version}_{}.zip", seconds(Timestamp::now())));
    let part = backup.with_extension("zip.part");
    let tree = read_tree(directory)?;
    let origin = Origin {
        version: version.clone(),
        tree: tree_hash(&tree),
        database: record.database.clone(),
        keys_version: record.keys_version,
    };
    let outcome = pack(directory, &tree, &origin, &part);
    if let Err(error) = outcome {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    durable::rename(&part, &backup)?;
    prune(&folder, &backup)?;
    Ok(backup)
}

fn pack(directory: &Path, files: &[TreeFile], origin: &Origin, part: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::from(durable::name_error("write the backup", part, error));
    let mut zip =
        ZipWriter::new(BufWriter::with_capacity(256 << 10, durable::patiently(|| File::create(part)).map_err(failed)?));
    let options =
        SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).compression_level(Some(LEVEL));
    zip.start_file(ORIGIN, options.unix_permissions(0o644)).map_err(|error| failed(error.into()))?;
    let json = serde_json::to_vec_pretty(origin).expect("plain strings serialise");
    zip.write_all(&json).map_err(failed)?;
    let mut buffer = vec![0; 256 << 10];
    for file in files.iter().filter(|file| file.path != ORIGIN) {
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
            durable::remove_tree(&path)?;
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

pub(crate) fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let named = |error| durable::name_error("read", folder, error);
    fs::read_dir(folder).map_err(named)?.map(|entry| Ok(entry.map_err(named)?.path())).collect()
}

/// `20260222T101000Z`.
fn seconds(time: Timestamp) -> String {
    let name = time.file_name();
    name.split('.').next().map(|seconds| format!("{seconds}Z")).unwrap_or_default()
}
