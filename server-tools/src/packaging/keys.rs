//! `publish keys`: a package that changes whose signatures plants require; `publish sign`: one more signature.

use std::path::{Path, PathBuf};

use protocol::signing::{PrivateKey, PublicKey};
use protocol::{Failure, Timestamp};
use updater::package::{self, Contents, FORMAT, Kind, Manifest, NewKeys, PRODUCT, Platform, Threshold, parse_version};

use super::{Published, newest, not_written, write};

/// What is asked of `publish keys`.
#[derive(Clone, Debug)]
pub struct KeysOrder {
    pub keys_version: u64,
    /// Files of the keys that count from then on.
    pub trust: Vec<PathBuf>,
    /// How many of them have to sign; without it as many as before.
    pub required: Option<usize>,
    /// Lowers what versions are taken again.
    pub floor: Option<String>,
    pub notes: String,
    pub out: PathBuf,
    pub created: Option<Timestamp>,
    pub expires: Option<Timestamp>,
}

/// Writes `OUT/update_v0.0.0-keys.<N>.zip`, signed with every key of `signers`.
///
/// # Errors
/// What plants would refuse, or what cannot be read or written.
pub fn publish_keys(order: &KeysOrder, signers: &[PrivateKey], quiet: bool) -> Result<Published, Failure> {
    let mut trusted = Vec::new();
    for file in &order.trust {
        trusted.extend(PublicKey::read_all(file)?);
    }
    let pem: Vec<String> = trusted.iter().map(PublicKey::to_pem).collect();
    let keys = match order.required {
        Some(required) => NewKeys::Threshold(Threshold { required, keys: pem }),
        None => NewKeys::Same(pem),
    };
    let manifest = Manifest {
        format: FORMAT,
        kind: Kind::Keys,
        product: PRODUCT.to_owned(),
        version: package::version_of_keys(order.keys_version),
        platform: Platform::ANY.to_owned(),
        created: order.created.map_or_else(|| newest(order.trust.iter()), Ok)?,
        files: Vec::new(),
        migrations: Vec::new(),
        notes: order.notes.clone(),
        remove: Vec::new(),
        expires: order.expires,
        min_version: order.floor.as_deref().map(parse_version).transpose().map_err(Failure::usage)?,
        base: None,
        result_tree: None,
        complete: false,
        keys_version: Some(order.keys_version),
        keys: Some(keys),
    };
    let new = trusted.iter().filter(|key| signers.iter().any(|signer| signer.public_key().id() == key.id())).count();
    let required = order.required.unwrap_or(1);
    let mut warnings = Vec::new();
    if new < required {
        warnings.push(format!(
            "{new} of the new keys have signed, and plants want {required}; add theirs with `publish sign`"
        ));
    }
    write(manifest, &Contents::default(), signers, &order.out, quiet, warnings)
}

/// Adds a signature to a package; how many it then has.
///
/// # Errors
/// A package that no plant would take, or one that has this key's signature first.
pub fn sign(path: &Path, key: &PrivateKey) -> Result<usize, Failure> {
    package::add_signature(path, key).map_err(|error| not_written(error, path))
}
