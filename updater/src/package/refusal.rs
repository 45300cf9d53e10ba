use std::fmt;

/// Why a package is refused: a stable code for machines, and what and where for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub detail: String,
}

/// A detail goes into answers and logs, and names what strangers have named.
const LONGEST_DETAIL: usize = 2000;

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > LONGEST_DETAIL {
            detail.truncate(detail.floor_char_boundary(LONGEST_DETAIL));
            detail.push('…');
            detail.shrink_to_fit();
        }
        Self { code, detail }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.detail, self.code.word())
    }
}

impl std::error::Error for Refusal {}

/// A code without its word does not compile.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// In the order in which a package is judged.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// As it stands in `{"reason": …}`; never changed once it is out.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// Above `UPDATE_MAX_BYTES` or the format's own bound.
    TooLarge = "too_large",
    TooManyEntries = "too_many_entries",
    UnpackedTooLarge = "unpacked_too_large",
    /// Unpacks to far more than is packed.
    Bomb = "compression_bomb",
    NotAZip = "not_a_zip",
    /// Local and central header of an entry tell different stories.
    HeadersDisagree = "headers_disagree",
    DuplicateEntry = "duplicate_entry",
    OverlappingEntries = "overlapping_entries",
    /// Something before the first entry, between entries, or behind the last.
    ForeignBytes = "foreign_bytes",
    Compression = "unsupported_compression",
    Encrypted = "encrypted_entry",
    NameTooLong = "name_too_long",
    BadName = "bad_name",
    /// Two names that some platform takes for one.
    NameCollision = "name_collision",
    /// A symlink, a device, a folder.
    SpecialFile = "special_file",
    MissingPart = "missing_part",
    InvalidSignature = "invalid_sig",
    NotEnoughSignatures = "not_enough_signatures",
    BadManifest = "bad_manifest",
    NewerFormat = "newer_format",
    WrongProduct = "wrong_product",
    WrongPlatform = "wrong_platform",
    /// What its sender announced is no version.
    BadVersion = "bad_version",
    /// Not the version that its sender announced.
    VersionMismatch = "version_mismatch",
    SameVersion = "same_version",
    OlderVersion = "older_version",
    MinVersion = "min_version",
    WrongBase = "wrong_base",
    Unbound = "unbound",
    Expired = "expired",
    /// A package of keys that is not the next one.
    KeysVersion = "keys_version",
    /// Keys that cannot be trusted: too small, doubled, or those that open sessions.
    BadKeys = "bad_keys",
    MissingFile = "missing_file",
    WrongSize = "wrong_size",
    WrongHash = "wrong_hash",
    UnlistedFile = "unlisted_file",
    ProtectedName = "protected_name",
    BadMigration = "bad_migration",
    NoDown = "no_down",
    /// What comes out is not what the publisher signed.
    WrongResult = "wrong_result",
    /// What comes out lacks one of the programs.
    IncompleteVersion = "incomplete_version",
    /// The package could not be read from disk.
    Unreadable = "unreadable",
}

impl Code {
    /// The word in `{"status": …}` of the answer to a delivery; the code itself is its `reason`.
    pub fn status(self) -> &'static str {
        match self {
            Self::InvalidSignature => "invalid_sig",
            Self::SameVersion => "same_version",
            Self::OlderVersion => "older_version",
            Self::TooLarge => "too_large",
            _ => "invalid_package",
        }
    }
}
