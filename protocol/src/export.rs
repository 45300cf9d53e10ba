//! An export on the wire: its headers, and its body as a series of complete gzip members.
//!
//! Each member carries, in an extra field of its gzip header, the cursor of the place behind it. Whoever has received a
//! member whole can go on from there; `zcat` sees one ordinary gzip file.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc, Decompress, FlushDecompress, Status};
use serde::{Deserialize, Serialize};

pub const RECORD_COUNT: &str = "x-record-count";
pub const PERIOD_END: &str = "x-period-end";
pub const NEXT_CURSOR: &str = "x-next-cursor";
pub const CURSOR_EXACT: &str = "x-cursor-exact";
pub const EPOCHS: &str = "x-export-epochs";
pub const GAP: &str = "x-export-gap";

/// A run of readings born in one epoch, first and last `seq` inclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRange {
    pub epoch: String,
    pub first_seq: u64,
    pub last_seq: u64,
}

impl EpochRange {
    /// The header's form: `epoch:first-last`, ranges separated by commas.
    pub fn write_all(ranges: &[Self]) -> String {
        ranges.iter().map(Self::to_string).collect::<Vec<_>>().join(",")
    }

    /// The inverse of [`EpochRange::write_all`]; `None` where it is malformed.
    pub fn read_all(header: &str) -> Option<Vec<Self>> {
        header.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
    }
}

impl fmt::Display for EpochRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}-{}", self.epoch, self.first_seq, self.last_seq)
    }
}

impl FromStr for EpochRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, range) = text.split_once(':').ok_or(())?;
        let (first, last) = range.split_once('-').ok_or(())?;
        let number = |digits: &str| digits.parse().map_err(|_| ());
        Ok(Self { epoch: epoch.to_owned(), first_seq: number(first)?, last_seq: number(last)? })
    }
}

/// Readings that the plant had accepted and had to drop: from when to when, how many, why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub from: crate::Timestamp,
    pub to: crate::Timestamp,
    pub readings: u64,
    pub reason: String,
}

/// Identifies our subfield among a gzip header's extra fields (RFC 1952, 2.3.1.1).
const CURSOR_SUBFIELD: [u8; 2] = *b"PL";
/// DEFLATE level of exported members: gzip's default, for its size.
const LEVEL: u32 = 6;

/// One complete gzip member over `lines`, with the cursor of the place behind it, if one can go on there.
pub fn write_member(lines: &[u8], cursor_behind: Option<&str>) -> Vec<u8> {
    let mut member = Vec::with_capacity(lines.len() / 8);
    write_member_header(&mut member, cursor_behind);
    let mut encoder = DeflateEncoder::new(member, Compression::new(LEVEL));
    encoder.write_all(lines).expect("writing to memory cannot fail");
    let mut member = encoder.finish().expect("writing to memory cannot fail");
    let mut checksum = Crc::new();
    checksum.update(lines);
    write_member_trailer(&mut member, checksum.sum(), lines.len());
    member
}

/// What stands before a member's DEFLATE stream (RFC 1952, 2.3).
pub fn write_member_header(member: &mut Vec<u8>, cursor_behind: Option<&str>) {
    const NO_TIME: [u8; 4] = [0; 4];
    const NO_HINT: u8 = 0;
    const UNKNOWN_SYSTEM: u8 = 255;
    let flags = if cursor_behind.is_some() { FLAG_EXTRA } else { 0 };
    member.extend_from_slice(&MAGIC_AND_DEFLATE);
    member.push(flags);
    member.extend_from_slice(&NO_TIME);
    member.extend_from_slice(&[NO_HINT, UNKNOWN_SYSTEM]);
    if let Some(cursor) = cursor_behind {
        let length = |length: usize| u16::try_from(length).expect("a cursor is some eighty bytes").to_le_bytes();
        member.extend_from_slice(&length(CURSOR_SUBFIELD.len() + 2 + cursor.len()));
        member.extend_from_slice(&CURSOR_SUBFIELD);
        member.extend_from_slice(&length(cursor.len()));
        member.extend_from_slice(cursor.as_bytes());
    }
}

/// What stands behind it: the CRC-32 of what it inflates to, and the length of that, modulo 2^32.
pub fn write_member_trailer(member: &mut Vec<u8>, checksum: u32, length: usize) {
    member.extend_from_slice(&checksum.to_le_bytes());
    member.extend_from_slice(&(length as u32).to_le_bytes());
}

/// The body is not what an export is made of. Positions are in compressed bytes from the body's start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenMember {
    #[error("no gzip member begins at byte {at}")]
    NotGzip { at: u64 },
    #[error("the gzip member that begins at byte {at} does not inflate")]
    NotDeflate { at: u64 },
    #[error("the gzip member that begins at byte {at} fails its checksum")]
    WrongChecksum { at: u64 },
    #[error("the gzip member that begins at byte {at} does not end with a line break")]
    TornLine { at: u64 },
}

/// Follows a body as it arrives, in pieces of any size, and vouches for each whole member: it inflates, its checksum and
/// length are right, it ends with a line break.
pub struct MemberReader {
    state: State,
    read_bytes: u64,
    whole: Whole,
}

/// What whole members have held so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// Compressed bytes up to the end of the last whole member.
    pub bytes: u64,
    pub lines: u64,
    /// Place behind the last whole member, where it says one.
    pub cursor: Option<String>,
}

enum State {
    Header(Vec<u8>),
    Body(Box<Body>),
    Trailer { body: Box<Body>, bytes: Vec<u8> },
}

struct Body {
    inflate: Decompress,
    checksum: Crc,
    lines: u64,
    last: u8,
    cursor: Option<String>,
}

/// Whether a text can be a cursor: what stands in a URL unescaped.
pub fn is_cursor(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    !text.is_empty() && text.len() <= 512 && text.bytes().all(plain)
}

const MAGIC_AND_DEFLATE: [u8; 3] = [0x1f, 0x8b, 8];
const FIXED_HEADER: usize = 10;
const TRAILER: usize = 8;
const FLAG_EXTRA: u8 = 4;

impl MemberReader {
    /// At a body's start, or behind the members that `whole` describes.
    pub fn new(whole: Whole) -> Self {
        Self { state: State::Header(Vec::new()), read_bytes: whole.bytes, whole }
    }

    pub fn whole(&self) -> &Whole {
        &self.whole
    }

    /// Whether the body could end here.
    pub fn is_at_member_end(&self) -> bool {
        self.read_bytes == self.whole.bytes
    }

    /// Takes the next piece; `lines` sees what inflates from it, which is vouched for only once its member is whole.
    ///
    /// # Errors
    /// [`BrokenMember`]; members before that stay whole.
    pub fn read(&mut self, mut piece: &[u8], mut lines: impl FnMut(&[u8])) -> Result<(), BrokenMember> {
        let mut inflated = vec![0; 64 << 10];
        while !piece.is_empty() {
            let at = self.whole.bytes;
            let taken = match &mut self.state {
                State::Header(bytes) => {
                    bytes.push(piece[0]);
                    if let Some(cursor) = parse_header(bytes).map_err(|()| BrokenMember::NotGzip { at })? {
                        self.state = State::Body(Box::new(Body::new(cursor)));
                    }
                    1
                }
                State::Body(body) => {
                    let (before_in, before_out) = (body.inflate.total_in(), body.inflate.total_out());
                    let status = body
                        .inflate
                        .decompress(piece, &mut inflated, FlushDecompress::None)
                        .map_err(|_| BrokenMember::NotDeflate { at })?;
                    let out = &inflated[..(body.inflate.total_out() - before_out) as usize];
                    body.take(out);
                    lines(out);
                    let taken = (body.inflate.total_in() - before_in) as usize;
                    if status == Status::StreamEnd {
                        let State::Body(body) = std::mem::replace(&mut self.state, State::Header(Vec::new())) else {
                            unreachable!("matched above")
                        };
                        self.state = State::Trailer { body, bytes: Vec::with_capacity(TRAILER) };
                    } else if taken == 0 && out.is_empty() {
                        return Err(BrokenMember::NotDeflate { at });
                    }
                    taken
                }
                State::Trailer { body, bytes } => {
                    bytes.push(piece[0]);
                    if bytes.len() == TRAILER {
                        let number =
                            |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
                        if number(0) != body.checksum.sum() || number(4) != body.checksum.amount() {
                            return Err(BrokenMember::WrongChecksum { at });
                        }
                        if body.lines > 0 && body.last != b'\n' {
                            return Err(BrokenMember::TornLine { at });
                        }
                        self.whole.lines += body.lines;
                        self.whole.bytes = self.read_bytes + 1;
                        self.whole.cursor = body.cursor.take();
                        self.state = State::Header(Vec::new());
                    }
                    1
                }
            };
            self.read_bytes += taken as u64;
            piece = &piece[taken..];
        }
        Ok(())
    }
}

impl Body {
    fn new(cursor: Option<String>) -> Self {
        Self { inflate: Decompress::new(false), checksum: Crc::new(), lines: 0, last: b'\n', cursor }
    }

    fn take(&mut self, inflated: &[u8]) {
        self.checksum.update(inflated);
        self.lines += inflated.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.last = inflated.last().copied().unwrap_or(self.last);
    }
}

/// `Ok(None)` while the header is not complete; then the cursor in it, if it has one.
fn parse_header(bytes: &[u8]) -> Result<Option<Option<String>>, ()> {
    let seen = bytes.len().min(3);
    if bytes[..seen] != MAGIC_AND_DEFLATE[..seen] || bytes.get(3).is_some_and(|flags| flags & !FLAG_EXTRA != 0) {
        return Err(());
    }
    if bytes.len() < FIXED_HEADER {
        return Ok(None);
    }
    if bytes[3] & FLAG_EXTRA == 0 {
        return Ok(Some(None));
    }
    let Some(length) = bytes.get(FIXED_HEADER..FIXED_HEADER + 2) else { return Ok(None) };
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    let Some(mut extra) = bytes.get(FIXED_HEADER + 2..FIXED_HEADER + 2 + length) else { return Ok(None) };
    while let [first, second, low, high, rest @ ..] = extra {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let content = rest.get(..length).ok_or(())?;
        if [*first, *second] == CURSOR_SUBFIELD {
            return String::from_utf8(content.to_vec()).map(|cursor| Some(Some(cursor))).map_err(|_| ());
        }
        extra = &rest[length..];
    }
    Ok(Some(None))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn body() -> (Vec<u8>, String) {
        let parts = ["one\ntwo\n", "three\n", ""];
        let body = parts
            .iter()
            .enumerate()
            .flat_map(|(at, part)| write_member(part.as_bytes(), Some(&format!("cursor-{at}"))))
            .collect();
        (body, parts.concat())
    }

    #[test]
    fn members_read_as_one_ordinary_gzip_file() {
        let (body, text) = body();
        let mut read = String::new();
        flate2::read::MultiGzDecoder::new(body.as_slice()).read_to_string(&mut read).unwrap();
        assert_eq!(read, text);
    }

    #[test]
    fn a_members_header_is_as_flate2_writes_it() {
        let cursor = "PL\x08\0cursor-1";
        let plain = flate2::GzBuilder::new().extra(cursor).write(Vec::new(), Compression::new(LEVEL)).finish().unwrap();
        assert_eq!(write_member(b"", Some("cursor-1")), plain);
        assert_eq!(
            write_member(b"", None),
            flate2::GzBuilder::new().write(Vec::new(), Compression::new(LEVEL)).finish().unwrap()
        );
    }

    #[test]
    fn any_number_of_empty_members_is_read() {
        let body = write_member(b"", None).repeat(50_000);
        let mut reader = MemberReader::new(Whole::default());
        reader.read(&body, |_| ()).unwrap();
        assert_eq!(reader.whole(), &Whole { bytes: body.len() as u64, lines: 0, cursor: None });
    }

    #[test]
    fn a_body_cut_at_any_byte_goes_on_behind_its_last_whole_member() {
        let (body, text) = body();
        for cut in 0..=body.len() {
            let mut first = MemberReader::new(Whole::default());
            first.read(&body[..cut], |_| ()).unwrap();
            let whole = first.whole().clone();
            let mut rest = Vec::new();
            let mut second = MemberReader::new(whole.clone());
            second.read(&body[whole.bytes as usize..], |lines| rest.extend_from_slice(lines)).unwrap();
            assert!(second.is_at_member_end());
            assert_eq!(second.whole(), &Whole { bytes: body.len() as u64, lines: 3, cursor: Some("cursor-2".into()) });
            assert!(text.as_bytes().ends_with(&rest));
        }
    }

    #[test]
    fn a_flipped_bit_is_never_vouched_for() {
        let (body, text) = body();
        for at in 0..body.len() {
            let mut broken = body.clone();
            broken[at] ^= 1;
            let mut reader = MemberReader::new(Whole::default());
            let mut lines = Vec::new();
            // A flip in a header's time or in the cursor's text leaves the data as it was; every other must be seen.
            if reader.read(&broken, |piece| lines.extend_from_slice(piece)).is_ok() && reader.is_at_member_end() {
                assert_eq!(String::from_utf8(lines).unwrap(), text, "byte {at}");
            }
        }
    }

    #[test]
    fn epoch_ranges_are_written_and_read_back() {
        let ranges = vec![
            EpochRange { epoch: "a1".into(), first_seq: 1, last_seq: 900 },
            EpochRange { epoch: "b2".into(), first_seq: 901, last_seq: 1000 },
        ];
        assert_eq!(EpochRange::write_all(&ranges), "a1:1-900,b2:901-1000");
        assert_eq!(EpochRange::read_all("a1:1-900,b2:901-1000"), Some(ranges));
        assert_eq!(EpochRange::read_all(""), Some(Vec::new()));
        assert_eq!(EpochRange::read_all("a1:1"), None);
    }
}
