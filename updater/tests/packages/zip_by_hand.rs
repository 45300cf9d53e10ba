//! A zip laid byte by byte, so that it can lie.

/// One entry, and what its two headers say of it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: Vec<u8>,
    /// In the directory, if it is another.
    pub central_name: Option<Vec<u8>>,
    pub content: Vec<u8>,
    /// What stands in the file, if it is not the content as it is.
    pub packed: Option<Vec<u8>>,
    pub method: u16,
    pub flags: u16,
    pub mode: u32,
    pub made_by: u8,
    /// What both headers say instead of the content's own size.
    pub claimed_bytes: Option<u32>,
    /// What only the directory says.
    pub central_bytes: Option<u32>,
    pub extra: Vec<u8>,
    /// Bytes between the entry and what follows.
    pub behind: Vec<u8>,
    /// Listed in the directory.
    pub listed: bool,
}

impl Entry {
    pub fn new(name: &str, content: &[u8]) -> Self {
        Self {
            name: name.into(),
            central_name: None,
            content: content.to_vec(),
            packed: None,
            method: 0,
            flags: 0,
            mode: 0o100_644,
            made_by: 3,
            claimed_bytes: None,
            central_bytes: None,
            extra: Vec::new(),
            behind: Vec::new(),
            listed: true,
        }
    }
}

/// The archive around the entries.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    pub entries: Vec<Entry>,
    pub before: Vec<u8>,
    pub behind: Vec<u8>,
    pub comment: Vec<u8>,
    /// What the end record says instead of the number of entries.
    pub claimed_entries: Option<u16>,
}

impl Archive {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.before.clone();
        let mut directory = Vec::new();
        let mut listed = 0_u16;
        for entry in &self.entries {
            let start = bytes.len() as u32;
            let packed = entry.packed.as_ref().unwrap_or(&entry.content);
            let size = entry.claimed_bytes.unwrap_or(entry.content.len() as u32);
            let crc = crc32fast::hash(&entry.content);
            let common = |name: &[u8], size: u32| {
                let mut fields = Vec::new();
                for field in [20, entry.flags, entry.method, 0, 0x21] {
                    fields.extend_from_slice(&field.to_le_bytes());
                }
                for field in [crc, packed.len() as u32, size] {
                    fields.extend_from_slice(&field.to_le_bytes());
                }
                fields.extend_from_slice(&(name.len() as u16).to_le_bytes());
                fields.extend_from_slice(&(entry.extra.len() as u16).to_le_bytes());
                fields
            };
            bytes.extend_from_slice(b"PK\x03\x04");
            bytes.extend_from_slice(&common(&entry.name, size));
            bytes.extend_from_slice(&entry.name);
            bytes.extend_from_slice(&entry.extra);
            bytes.extend_from_slice(packed);
            bytes.extend_from_slice(&entry.behind);
            if !entry.listed {
                continue;
            }
            listed += 1;
            let name = entry.central_name.as_ref().unwrap_or(&entry.name);
            directory.extend_from_slice(b"PK\x01\x02");
            directory.extend_from_slice(&[20, entry.made_by]);
            directory.extend_from_slice(&common(name, entry.central_bytes.unwrap_or(size)));
            // Comment, disk, internal attributes.
            directory.extend_from_slice(&[0; 6]);
            directory.extend_from_slice(&(entry.mode << 16).to_le_bytes());
            directory.extend_from_slice(&start.to_le_bytes());
            directory.extend_from_slice(name);
            directory.extend_from_slice(&entry.extra);
        }
        let directory_start = bytes.len() as u32;
        bytes.extend_from_slice(&directory);
        let entries = self.claimed_entries.unwrap_or(listed);
        bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        bytes.extend_from_slice(&entries.to_le_bytes());
        bytes.extend_from_slice(&entries.to_le_bytes());
        bytes.extend_from_slice(&(directory.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&directory_start.to_le_bytes());
        bytes.extend_from_slice(&(self.comment.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&self.comment);
        bytes.extend_from_slice(&self.behind);
        bytes
    }
}
