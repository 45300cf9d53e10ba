//! The zip around a package, read with suspicion: one entry behind the other from the first byte to the directory, the
//! directory up to the end record, and nothing else. What a lenient reader would skip, merge or rewrite is refused.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

use zip::ZipArchive;

use super::limits::Limits;
use super::names;
use super::refusal::{Code, Refusal};
use super::{FILES, MANIFEST, MIGRATIONS, MORE_SIGNATURES, SIGNATURE};

/// A zip whose structure is sound and whose names are good. Of its content nothing is known yet.
pub struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// In the order of the archive.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub bytes: u64,
}

/// The end record without comment; a package has none.
const END_BYTES: u64 = 22;
const END_SIGNATURE: &[u8; 4] = b"PK\x05\x06";
/// Bits of the general purpose flags that a package may have set: hints of the compressor, sizes behind the data, UTF-8.
const KNOWN_FLAGS: u16 = 0b0000_1000_0000_1110;
const ENCRYPTED: u16 = 1;
const SIZES_BEHIND: u16 = 1 << 3;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const DOS_FOLDER: u8 = 0x10;
const FILE_TYPE: u32 = 0o170_000;
const PLAIN_FILE: u32 = 0o100_000;
/// Ids of extra fields.
const ZIP64: u16 = 1;
const UNICODE_PATH: u16 = 0x7075;
const AES: u16 = 0x9901;

/// The entries as the file itself lays them out.
struct Directory {
    records: Vec<Record>,
}

impl Archive {
    /// Limits, structure and names: what can be judged before anything is unpacked.
    pub fn open(mut file: File, limits: &Limits) -> Result<Self, Refusal> {
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes > limits.package_bytes {
            let detail = format!("the package has {bytes} bytes; at most {} are taken", limits.package_bytes);
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        let Directory { records } = Directory::read(&mut file, bytes, limits)?;
        let entries: Vec<Entry> =
            records.into_iter().map(|record| Entry { name: record.name, bytes: record.bytes }).collect();
        check_parts(&entries)?;
        file.rewind().map_err(unreadable)?;
        // A second opinion, of the library that will unpack it: both have to see the same entries.
        let disagree = |error: &dyn std::fmt::Display| {
            Refusal::new(Code::HeadersDisagree, format!("local and central headers disagree: {error}"))
        };
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|error| disagree(&error))?;
        zip.validate_header_consistency().map_err(|error| disagree(&error))?;
        if zip.len() != entries.len() || entries.iter().any(|entry| zip.index_for_name(&entry.name).is_none()) {
            return Err(disagree(&"two readers see two archives"));
        }
        Ok(Self { zip, entries })
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Unpacks one entry, never more than its header says.
    pub fn unpack(&mut self, name: &str, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), UnpackError> {
        let missing = || Refusal::new(Code::MissingPart, format!("the package has no {name}"));
        let index = self.zip.index_for_name(name).ok_or_else(missing)?;
        let entry = self.zip.by_index(index);
        let entry =
            entry.map_err(|error| Refusal::new(Code::NotAZip, format!("{name} cannot be unpacked: {error}")))?;
        let size = entry.size();
        let mut content = entry.take(size + 1);
        let mut buffer = vec![0; 128 << 10];
        let mut unpacked = 0;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Also a checksum that is wrong.
                Err(error) => {
                    let detail = format!("{name} cannot be unpacked: {error}");
                    return Err(Refusal::new(Code::WrongHash, detail).into());
                }
            };
            unpacked += count as u64;
            if unpacked > size {
                break;
            }
            each(&buffer[..count]).map_err(UnpackError::Sink)?;
        }
        if unpacked != size {
            let detail = format!("{name} does not unpack to the {size} bytes that its header says");
            return Err(Refusal::new(Code::WrongSize, detail).into());
        }
        Ok(())
    }

    /// A small entry as a whole.
    pub fn read(&mut self, name: &str, at_most: u64) -> Result<Vec<u8>, Refusal> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.name == name)
            && entry.bytes > at_most
        {
            return Err(Refusal::new(
                Code::BadManifest,
                format!("{name} has {} bytes; at most {at_most} are read", entry.bytes),
            ));
        }
        let mut content = Vec::new();
        self.unpack(name, |bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })
        .map_err(UnpackError::into_refusal)?;
        Ok(content)
    }
}

/// Why an entry was not unpacked: the package's fault, or that of whoever takes the bytes.
#[derive(Debug)]
pub enum UnpackError {
    Refused(Refusal),
    Sink(io::Error),
}

impl UnpackError {
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Sink(error) => unreadable(error),
        }
    }
}

impl From<Refusal> for UnpackError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Directory {
    /// Reads the end record, the directory and every local header, and checks that together they are the whole file.
    fn read(file: &mut File, bytes: u64, limits: &Limits) -> Result<Self, Refusal> {
        let end = End::read(file, bytes, limits)?;
        let mut directory = vec![0; usize::try_from(end.directory_bytes).unwrap_or_default()];
        file.seek(SeekFrom::Start(end.directory_start)).map_err(unreadable)?;
        file.read_exact(&mut directory).map_err(unreadable)?;
        let mut records = Vec::with_capacity(end.entries);
        let mut rest = directory.as_slice();
        while !rest.is_empty() {
            let (record, behind) = Record::parse(rest)?;
            records.push(record);
            rest = behind;
        }
        if records.len() != end.entries {
            return Err(Refusal::new(Code::NotAZip, "the archive's directory has not as many entries as it says"));
        }
        records.iter().try_for_each(|record| record.check_limits(limits))?;
        let unpacked = records.iter().fold(0_u64, |sum, record| sum.saturating_add(record.bytes));
        if unpacked > limits.unpacked_bytes {
            let detail = format!("the package unpacks to more than {} bytes", limits.unpacked_bytes);
            return Err(Refusal::new(Code::UnpackedTooLarge, detail));
        }
        records.iter().try_for_each(Record::check_structure)?;
        check_distinct(&records)?;
        check_places(file, &records, end.directory_start)?;
        records.iter().try_for_each(Record::check_name)?;
        Ok(Self { records })
    }
}

/// What the last bytes of the file say.
struct End {
    entries: usize,
    directory_start: u64,
    directory_bytes: u64,
}

impl End {
    /// The end record has to be the end of the file, and the directory has to end where it begins: no comment, no
    /// 64-bit extension, no second archive behind the first.
    fn read(file: &mut File, bytes: u64, limits: &Limits) -> Result<Self, Refusal> {
        let no_zip = || Refusal::new(Code::NotAZip, "the file is no zip archive");
        let start = bytes.checked_sub(END_BYTES).ok_or_else(no_zip)?;
        let mut record = [0; END_BYTES as usize];
        file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut record)).map_err(unreadable)?;
        if !record.starts_with(END_SIGNATURE) || short(&record, 20) != 0 {
            return Err(if has_end_before(file, bytes)? {
                Refusal::new(Code::ForeignBytes, "something follows the archive's end, or a comment is in it")
            } else {
                no_zip()
            });
        }
        let entries = usize::from(short(&record, 10));
        let (directory_bytes, directory_start) = (long(&record, 12), long(&record, 16));
        if entries > limits.entries {
            let detail = format!("the archive has {entries} entries; at most {} are taken", limits.entries);
            return Err(Refusal::new(Code::TooManyEntries, detail));
        }
        let disks = (short(&record, 4), short(&record, 6));
        if disks != (0, 0) || usize::from(short(&record, 8)) != entries || directory_bytes > limits.directory_bytes() {
            return Err(Refusal::new(Code::NotAZip, "the archive's end record is none of a package"));
        }
        if directory_start + directory_bytes != start {
            let detail = "the archive's directory does not end where its end record begins";
            return Err(Refusal::new(Code::ForeignBytes, detail));
        }
        Ok(Self { entries, directory_start, directory_bytes })
    }
}

/// Whether an end record stands where a lenient reader would find it: somewhere in the last 64 KiB.
fn has_end_before(file: &mut File, bytes: u64) -> Result<bool, Refusal> {
    let from = bytes.saturating_sub(END_BYTES + u64::from(u16::MAX));
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut tail)).map_err(unreadable)?;
    Ok(tail.windows(END_SIGNATURE.len()).any(|window| window == END_SIGNATURE))
}

/// One entry of the directory.
struct Record {
    raw_name: Vec<u8>,
    name: String,
    crc: u64,
    flags: u16,
    method: u16,
    packed: u64,
    bytes: u64,
    mode: u32,
    dos_attributes: u8,
    two_names: bool,
    start: u64,
}

impl Record {
    fn parse(rest: &[u8]) -> Result<(Self, &[u8]), Refusal> {
        let broken = || Refusal::new(Code::NotAZip, "the archive's directory is broken");
        let fixed = rest.get(..46).filter(|fixed| fixed.starts_with(b"PK\x01\x02")).ok_or_else(broken)?;
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(short(fixed, at)));
        let variable = rest.get(46..46 + name + extra + comment).ok_or_else(broken)?;
        let raw_name = variable[..name].to_vec();
        let record = Self {
            name: String::from_utf8_lossy(&raw_name).into_owned(),
            crc: long(fixed, 16),
            flags: short(fixed, 8),
            method: short(fixed, 10),
            packed: long(fixed, 20),
            bytes: long(fixed, 24),
            mode: u32::from(short(fixed, 40)),
            dos_attributes: fixed[38],
            two_names: has_other_name(&variable[name..name + extra]),
            start: long(fixed, 42),
            raw_name,
        };
        Ok((record, &rest[46 + name + extra + comment..]))
    }

    fn refuse(&self, code: Code, what: &str) -> Result<(), Refusal> {
        let shown: String = self.name.chars().take(80).collect();
        Err(Refusal::new(code, format!("the entry {shown:?} {what}")))
    }

    fn check_limits(&self, limits: &Limits) -> Result<(), Refusal> {
        if self.raw_name.len() > limits.name_bytes {
            return self.refuse(Code::NameTooLong, &format!("has a name of more than {} bytes", limits.name_bytes));
        }
        if self.bytes > limits.ratio_from_bytes && self.bytes / self.packed.max(1) > limits.ratio {
            return self.refuse(Code::Bomb, &format!("unpacks to more than {} times its size", limits.ratio));
        }
        Ok(())
    }

    fn check_structure(&self) -> Result<(), Refusal> {
        if self.flags & ENCRYPTED != 0 {
            return self.refuse(Code::Encrypted, "is encrypted");
        }
        if ![STORED, DEFLATED].contains(&self.method) || self.flags & !KNOWN_FLAGS != 0 {
            return self.refuse(Code::Compression, "is neither stored nor deflated");
        }
        Ok(())
    }

    fn check_name(&self) -> Result<(), Refusal> {
        if std::str::from_utf8(&self.raw_name).is_err() {
            return self.refuse(Code::BadName, "has a name that is no UTF-8");
        }
        if self.two_names {
            return self.refuse(Code::BadName, "has two names");
        }
        // Whatever system it was made on: somebody else's reader may go by either.
        let is_plain = [0, PLAIN_FILE].contains(&(self.mode & FILE_TYPE));
        if !is_plain || self.dos_attributes & DOS_FOLDER != 0 {
            return self.refuse(Code::SpecialFile, "is no plain file");
        }
        names::check(&self.name)
    }
}

fn check_distinct(records: &[Record]) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    match records.iter().find(|record| !seen.insert(&record.raw_name)) {
        Some(record) => record.refuse(Code::DuplicateEntry, "is there twice"),
        None => Ok(()),
    }
}

/// That the entries lie one behind the other from the first byte to the directory.
fn check_places(file: &mut File, records: &[Record], directory_start: u64) -> Result<(), Refusal> {
    let mut records: Vec<&Record> = records.iter().collect();
    records.sort_by_key(|record| record.start);
    let ends = records.iter().skip(1).map(|next| next.start).chain([directory_start]).collect::<Vec<_>>();
    if records.first().map_or(directory_start, |first| first.start) != 0 {
        return Err(Refusal::new(Code::ForeignBytes, "something stands before the archive's first entry"));
    }
    for (record, end) in records.iter().zip(ends) {
        let name = &record.name;
        let mut header = [0; 30];
        file.seek(SeekFrom::Start(record.start)).map_err(unreadable)?;
        let read = file.read_exact(&mut header);
        if read.is_err() || !header.starts_with(b"PK\x03\x04") {
            return Err(Refusal::new(Code::HeadersDisagree, format!("the entry {name:?} has no local header")));
        }
        let (name_bytes, extra_bytes) = (usize::from(short(&header, 26)), usize::from(short(&header, 28)));
        let mut variable = vec![0; name_bytes + extra_bytes];
        file.read_exact(&mut variable).map_err(unreadable)?;
        if variable[..name_bytes] != record.raw_name || has_other_name(&variable[name_bytes..]) != record.two_names {
            return Err(Refusal::new(Code::HeadersDisagree, format!("the entry {name:?} has two names")));
        }
        let data_end = record.start + 30 + variable.len() as u64 + record.packed;
        // A writer that could not go back has put the sizes behind the data, with or without a signature.
        let descriptors: &[u64] = if record.flags & SIZES_BEHIND != 0 { &[12, 16] } else { &[0] };
        match end.checked_sub(data_end) {
            None => {
                return Err(Refusal::new(Code::OverlappingEntries, format!("the entry {name:?} overlaps the next")));
            }
            Some(gap) if !descriptors.contains(&gap) => {
                return Err(Refusal::new(Code::ForeignBytes, format!("something stands behind the entry {name:?}")));
            }
            Some(gap) => check_descriptor(file, record, data_end, gap)?,
        }
    }
    Ok(())
}

/// The sizes behind the data have to be those of the directory.
fn check_descriptor(file: &mut File, record: &Record, at: u64, bytes: u64) -> Result<(), Refusal> {
    let mut descriptor = vec![0; usize::try_from(bytes).unwrap_or_default()];
    file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut descriptor)).map_err(unreadable)?;
    let fields = if bytes == 16 { descriptor.strip_prefix(b"PK\x07\x08") } else { Some(descriptor.as_slice()) };
    let agree = fields.is_some_and(|fields| {
        fields.is_empty()
            || [long(fields, 0), long(fields, 4), long(fields, 8)] == [record.crc, record.packed, record.bytes]
    });
    match agree {
        true => Ok(()),
        false => record.refuse(Code::HeadersDisagree, "has other sizes behind its data"),
    }
}

/// Whether an extra field gives another name, sizes of 64 bits or another compression, which no package needs.
fn has_other_name(mut extra: &[u8]) -> bool {
    while let Some((header, rest)) = extra.split_at_checked(4) {
        if [UNICODE_PATH, ZIP64, AES].contains(&short(header, 0)) {
            return true;
        }
        extra = rest.get(usize::from(short(header, 2))..).unwrap_or_default();
    }
    false
}

/// That the parts of a package are there and nothing else.
fn check_parts(entries: &[Entry]) -> Result<(), Refusal> {
    let known = [MANIFEST, SIGNATURE, MORE_SIGNATURES];
    for Entry { name, .. } in entries {
        if !known.contains(&name.as_str()) && !name.starts_with(FILES) && !name.starts_with(MIGRATIONS) {
            return Err(Refusal::new(Code::UnlistedFile, format!("{name} is no part of a package")));
        }
    }
    names::check_distinct(entries.iter().map(|entry| entry.name.as_str()))
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]).into()
}

fn unreadable(error: io::Error) -> Refusal {
    Refusal::new(Code::Unreadable, format!("the package cannot be read: {error}"))
}
