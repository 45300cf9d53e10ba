use protocol::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::names;
use super::refusal::{Code, Refusal};

/// The newest format that this reader knows, and the one it writes.
pub const FORMAT: u32 = 1;
pub const PRODUCT: &str = "plantlink";
/// A version names a directory, and stands in the boot record more than once.
const LONGEST_VERSION: usize = 64;
/// They are shown on a page, and told to it again and again.
const LONGEST_NOTES: usize = 16 << 10;

/// `manifest.json`. Its raw bytes are signed; this is what they say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub kind: Kind,
    pub product: String,
    pub version: Version,
    pub platform: String,
    pub created: Timestamp,
    pub files: Vec<ManifestFile>,
    pub migrations: Vec<ManifestMigration>,
    pub notes: String,
    /// Paths that the new version no longer has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<Version>,
    /// Names of the version directories that it may be put on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Vec<String>>,
    /// Tree hash that must come out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_tree: Option<String>,
    /// A whole version directory: nothing is taken from the old one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<NewKeys>,
}

/// The keys that sign packages from then on, as SPKI PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NewKeys {
    /// As many signatures are required as before.
    Same(Vec<String>),
    Threshold(Threshold),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// So many of the keys have to sign.
    pub required: usize,
    pub keys: Vec<String>,
}

impl NewKeys {
    pub fn pem(&self) -> &[String] {
        match self {
            Self::Same(keys) | Self::Threshold(Threshold { keys, .. }) => keys,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Program,
    /// Rotates the keys that packages are signed with.
    Keys,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Relative to the version directory.
    pub path: String,
    /// Hex.
    pub sha256: String,
    pub size: u64,
    pub executable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestMigration {
    pub name: String,
    /// Hex.
    pub sha256: String,
}

/// Where a package's programs run.
pub struct Platform;

impl Platform {
    pub const ANY: &str = "any";
    pub const ALL: [&str; 3] = ["linux-x86_64", "windows-x86_64", Self::ANY];

    /// Of this very program.
    pub fn here() -> String {
        format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
    }
}

/// A version as packages and HTTP headers name it.
///
/// # Errors
/// What is wrong with it.
pub fn parse_version(text: &str) -> Result<Version, String> {
    if text.len() > LONGEST_VERSION {
        return Err(format!("a version has at most {LONGEST_VERSION} characters"));
    }
    Version::parse(text).map_err(|error| format!("`{text}` is no version such as 1.2.0: {error}"))
}

/// The version of a package of keys: below that of any program.
///
/// # Panics
/// Never.
pub fn version_of_keys(keys_version: u64) -> Version {
    let mut version = Version::new(0, 0, 0);
    version.pre = semver::Prerelease::new(&format!("keys.{keys_version}")).expect("a word and a number");
    version
}

/// Whether [`version_of_keys`] has made it.
pub fn names_keys(version: &Version) -> bool {
    let number = version.pre.strip_prefix("keys.").and_then(|number| number.parse().ok());
    number.is_some_and(|number| *version == version_of_keys(number))
}

impl Manifest {
    /// Strict: an unknown or doubled key, a value of another type or a rule of the format broken is refused.
    ///
    /// # Errors
    /// [`Code::NewerFormat`], [`Code::BadManifest`], or the code of the name that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let bad = |what: &dyn std::fmt::Display| Refusal::new(Code::BadManifest, format!("manifest.json: {what}"));
        // serde would take an array for a struct.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(bad(&"is no JSON object"));
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(|error| bad(&error))?;
        if format > FORMAT {
            let detail = format!("the package is of format {format}; this version knows up to {FORMAT}");
            return Err(Refusal::new(Code::NewerFormat, detail));
        }
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| bad(&error))?;
        let lists = ["files", "migrations"].iter().filter_map(|list| value[list].as_array()).flatten();
        if !value["kind"].is_string() || lists.into_iter().any(|item| !item.is_object()) {
            return Err(bad(&"a text or an object is expected where there is something else"));
        }
        drop(value);
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| bad(&error))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// What holds for every manifest, wherever it is put.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let bad = |what: String| Err(Refusal::new(Code::BadManifest, format!("manifest.json: {what}")));
        if self.format != FORMAT {
            return bad(format!("format {} is none", self.format));
        }
        if let Err(what) = parse_version(&self.version.to_string()) {
            return bad(what);
        }
        if self.notes.len() > LONGEST_NOTES {
            return bad(format!("the notes have more than {LONGEST_NOTES} bytes"));
        }
        let keys = self.keys.as_ref().is_some_and(|keys| !keys.pem().is_empty()) && self.keys_version.is_some();
        match self.kind {
            Kind::Program if self.keys.is_some() || self.keys_version.is_some() => {
                return bad("a package of programs carries no keys".to_owned());
            }
            Kind::Keys if !keys || !self.files.is_empty() || !self.migrations.is_empty() || !self.remove.is_empty() => {
                return bad("a package of kind keys carries keys and keys_version, and nothing else".to_owned());
            }
            Kind::Program if names_keys(&self.version) => {
                return bad(format!("{} is the version of a package of keys", self.version));
            }
            Kind::Program | Kind::Keys => {}
        }
        let hashes = self.files.iter().map(|file| &file.sha256);
        let hashes = hashes.chain(self.migrations.iter().map(|migration| &migration.sha256)).chain(&self.result_tree);
        for hash in hashes {
            if hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return bad(format!("{hash:?} is no SHA-256 in lower-case hexadecimal digits"));
            }
        }
        if self.complete && !self.remove.is_empty() {
            return bad("a complete package has nothing to remove".to_owned());
        }
        for path in self.files.iter().map(|file| &file.path).chain(&self.remove) {
            names::check(path)?;
            names::check_protected(path)?;
        }
        names::check_distinct(
            self.files.iter().map(|file| file.path.as_str()).chain(self.remove.iter().map(String::as_str)),
        )
    }

    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("plain values serialise");
        json.push(b'\n');
        json
    }
}
