//! Whose signatures packages need: at first the keys in `config/update_public.pem`, and from the first rotation on the set
//! in `state/update_keys.json`, which only a package of keys changes.
//!
//! The set is laid ready as `update_keys.next.json`, then the boot record says that it counts, then it is renamed into
//! place. A set that is lost or older than the boot record knows is never replaced by the configured keys: whoever could
//! remove a file would choose whom to trust.

use std::fs;
use std::path::Path;

use config::{InstallRoot, Settings};
use durable::Access;
use protocol::Failure;
use protocol::signing::PublicKey;
use serde::{Deserialize, Serialize};

use crate::boot_record::BootRecord;
use crate::package::Trust;

/// What the configured keys count as; the first package of keys is of the version after it.
pub const FIRST_VERSION: u64 = 1;

/// `state/update_keys.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySet {
    version: u64,
    required: usize,
    /// SPKI PEM.
    keys: Vec<String>,
}

/// Who is trusted here, with what.
pub struct TrustedKeys {
    /// Whose signatures packages need.
    pub trust: Trust,
    /// Of that set.
    pub version: u64,
    /// Ids of the keys that open sessions, and sign no package.
    pub session_keys: Vec<String>,
}

/// Whom the configuration and the packages of keys have made trusted.
///
/// # Errors
/// Keys that cannot be used, a session key among them, or a set that is lost.
pub fn read(root: &InstallRoot, settings: &Settings, record: &BootRecord) -> Result<TrustedKeys, Failure> {
    let path = root.update_keys();
    let (trust, version) = match read_set(&path)? {
        Some(set) if set.version >= record.keys_version => {
            let keys = PublicKey::parse_all(&set.keys.concat(), &path.display().to_string())?;
            (Trust { keys, required: set.required }, set.version)
        }
        None if record.keys_version == 0 => {
            let keys = PublicKey::read_all(&root.resolve(&settings.update_public_key_file))?;
            (Trust { keys, required: settings.update_signatures_required.get() as usize }, FIRST_VERSION)
        }
        found => {
            let found = found.map_or_else(|| "there is none".to_owned(), |set| format!("it is of {}", set.version));
            return Err(Failure::configuration(format!(
                "{} should hold the keys of version {}, and {found}; no update is taken. Put the file back from a copy \
                 of this root",
                path.display(),
                record.keys_version
            )));
        }
    };
    let session_keys = session_keys(root, settings)?;
    match trust.keys.iter().find(|key| session_keys.iter().any(|id| id == key.id())) {
        None => Ok(TrustedKeys { trust, version, session_keys }),
        Some(key) => Err(Failure::configuration(format!(
            "key {}, which signs packages ({} or {}), opens sessions as well; it has to be another",
            key.id(),
            settings.update_public_key_file.display(),
            path.display()
        ))),
    }
}

fn session_keys(root: &InstallRoot, settings: &Settings) -> Result<Vec<String>, Failure> {
    let path = root.resolve(&settings.server_public_key_file);
    match path.exists() {
        true => Ok(PublicKey::read_all(&path)?.iter().map(|key| key.id().to_owned()).collect()),
        false => Ok(Vec::new()),
    }
}

/// Of the set in `state/`; 0 if there is none.
///
/// # Errors
/// A set that cannot be read.
pub fn version_on_disk(root: &InstallRoot) -> Result<u64, Failure> {
    Ok(read_set(&root.update_keys())?.map_or(0, |set| set.version))
}

/// Lays a set ready. Nothing counts by it before the boot record says so.
///
/// # Errors
/// Those of the disk.
pub fn lay_ready(root: &InstallRoot, trust: &Trust, version: u64) -> Result<(), Failure> {
    let keys = trust.keys.iter().map(PublicKey::to_pem).collect();
    let set = KeySet { version, required: trust.required, keys };
    let mut json = serde_json::to_vec_pretty(&set).expect("plain strings serialise");
    json.push(b'\n');
    Ok(durable::replace(&root.next_update_keys(), &json, Access::Shared)?)
}

/// Puts the set that was laid ready into its place; again after a kill.
///
/// # Errors
/// Those of the disk, or a set that is not there.
pub fn install(root: &InstallRoot, version: u64) -> Result<(), Failure> {
    let later = |failure: Failure| Failure::try_later(failure.message);
    if read_set(&root.update_keys()).map_err(later)?.is_some_and(|set| set.version == version) {
        // Who was killed may not have come to this.
        return Ok(durable::sync_folder_of(&root.update_keys())?);
    }
    match read_set(&root.next_update_keys()).map_err(later)? {
        Some(next) if next.version == version => Ok(durable::rename(&root.next_update_keys(), &root.update_keys())?),
        _ => Err(Failure::try_later(format!(
            "{} should hold the keys of version {version}, which the operator has approved",
            root.next_update_keys().display()
        ))),
    }
}

fn read_set(path: &Path) -> Result<Option<KeySet>, Failure> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|error| durable::name_error("read", path, error))?,
    };
    let set = serde_json::from_slice(&bytes);
    set.map(Some).map_err(|error| Failure::configuration(format!("{} is damaged: {error}", path.display())))
}
