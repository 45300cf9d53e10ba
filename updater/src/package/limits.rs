/// What a package may be at most. A plant PC is small, and whoever sends a package has proved only that he is HQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub package_bytes: u64,
    pub unpacked_bytes: u64,
    pub entries: usize,
    /// Of an entry's name in the archive.
    pub name_bytes: usize,
    /// How often larger an entry may be than what is packed of it, once it is larger than `ratio_from_bytes`.
    pub ratio: u64,
    pub ratio_from_bytes: u64,
    /// Of the manifest, which is read into memory before anybody is trusted.
    pub manifest_bytes: u64,
    pub signature_bytes: u64,
    /// Of all migrations together, which are kept in memory from their verification to their end.
    pub migrations_bytes: u64,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        package_bytes: 512 << 20,
        unpacked_bytes: 2 << 30,
        entries: 20_000,
        name_bytes: 240,
        ratio: 200,
        ratio_from_bytes: 1 << 20,
        manifest_bytes: 8 << 20,
        signature_bytes: 64 << 10,
        migrations_bytes: 8 << 20,
    };

    /// The central directory of so many entries, with generous extra fields; larger ones are not read.
    pub(super) fn directory_bytes(&self) -> u64 {
        (self.entries * (46 + self.name_bytes + 64)) as u64
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
