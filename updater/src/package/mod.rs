//! An update package: a zip of a signed manifest, files and migrations. Written by [`pack`], read by [`verify`], and by
//! nothing else.
//!
//! ```text
//! manifest.json     its raw bytes are what is signed
//! manifest.sig      raw RSA-PSS signature
//! manifest.sigs.json  further signatures, where more than one is asked for
//! files/…           new and changed files of the version directory
//! migrations/0012_add_alarms.sql  [0012_add_alarms.sqlite.sql] [0012_add_alarms.down.sql]
//! ```

mod archive;
mod limits;
mod manifest;
mod migrations;
pub mod names;
mod pack;
mod refusal;
mod verify;

pub use limits::Limits;
pub use manifest::{
    FORMAT, Kind, Manifest, ManifestFile, ManifestMigration, NewKeys, PRODUCT, Platform, Threshold, parse_version,
    version_of_keys,
};
pub use migrations::Dialect;
pub use pack::{Contents, PackError, Packed, add_signature, pack};
pub use refusal::{Code, Refusal};
pub use verify::{Look, SignedManifest, Situation, Trust, VerifiedPackage, look, reopen, verify};

pub(crate) use archive::UnpackError;

/// The parts of a package by their names in the archive.
const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "manifest.sig";
const MORE_SIGNATURES: &str = "manifest.sigs.json";
const FILES: &str = "files/";
const MIGRATIONS: &str = "migrations/";
