use std::fmt;
use std::marker::PhantomData;

use protocol::Timestamp;
use semver::Version;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::limits::Limits;
use super::names;
use super::refusal::{Code, Refusal};

/// The newest format that this reader knows, and the one it writes.
pub const FORMAT: u32 = 1;
pub const PRODUCT: &str = "plantlink";
/// A version names a directory, and stands in the boot record more than once.
const LONGEST_VERSION: usize = 64;
/// They are shown on a page, and told to it again and again.
const LONGEST_NOTES: usize = 16 << 10;
/// Of any text as it stands in the JSON: the longest notes, each byte of them escaped. A parser repeats a text that it
/// does not expect in its message, in more bytes than it had.
const LONGEST_TEXT: usize = 6 * LONGEST_NOTES;

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
    #[serde(deserialize_with = "objects")]
    pub files: Vec<ManifestFile>,
    #[serde(deserialize_with = "objects")]
    pub migrations: Vec<ManifestMigration>,
    pub notes: String,
    /// Paths that the new version no longer has.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub remove: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<Version>,
    /// Names of the version directories that it may be put on.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_list")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    #[serde(deserialize_with = "list")]
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
#[serde(rename_all = "snake_case", try_from = "String")]
pub enum Kind {
    Program,
    /// Rotates the keys that packages are signed with.
    Keys,
}

/// A word and nothing else; serde would also take `{"program": null}`.
impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "program" => Ok(Self::Program),
            "keys" => Ok(Self::Keys),
            _ => Err(format!("there is no kind {word:?}")),
        }
    }
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
        let bad = |what: &dyn fmt::Display| Refusal::new(Code::BadManifest, format!("manifest.json: {what}"));
        // serde would take an array for a struct.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(bad(&"is no JSON object"));
        }
        if longest_text(bytes) > LONGEST_TEXT {
            return Err(bad(&format!("a text in it has more than {LONGEST_TEXT} bytes")));
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(|error| bad(&error))?;
        if format > FORMAT {
            let detail = format!("the package is of format {format}; this version knows up to {FORMAT}");
            return Err(Refusal::new(Code::NewerFormat, detail));
        }
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
            Kind::Keys if self.keys_version.is_none_or(|number| version_of_keys(number) != self.version) => {
                return bad(format!("{} is not the version of its keys, such as 0.0.0-keys.2", self.version));
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

/// Of the texts as they stand in the JSON, up to where it is none.
fn longest_text(json: &[u8]) -> usize {
    let (mut longest, mut length) = (0, 0);
    let (mut inside, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = inside,
            b'"' => (inside, length) = (!inside, 0),
            _ => {}
        }
        length += usize::from(inside);
        longest = longest.max(length);
    }
    longest
}

/// No longer than an archive may be: 8 MiB of `"",` would be a hundred in memory.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct List<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == Limits::DEFAULT.entries {
                    return Err(A::Error::custom(format!("a list has more than {} items", list.len())));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(List(PhantomData))
}

fn optional_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    struct Texts(#[serde(deserialize_with = "list")] Vec<String>);

    Ok(Option::<Texts>::deserialize(deserializer)?.map(|Texts(texts)| texts))
}

/// A list, or an object with one; not untagged, which would keep all of it in memory first.
impl<'de> Deserialize<'de> for NewKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = NewKeys;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of keys, or an object with keys and required")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<NewKeys, A::Error> {
                list(SeqAccessDeserializer::new(items)).map(NewKeys::Same)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NewKeys, A::Error> {
                Threshold::deserialize(MapAccessDeserializer::new(map)).map(NewKeys::Threshold)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(list::<_, Object<T>>(deserializer)?.into_iter().map(|Object(item)| item).collect())
}

/// `{…}` and nothing else; serde would take an array for a struct.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Keys<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Keys(PhantomData)).map(Self)
    }
}
