//! One member after the other, in the same memory.

use libdeflater::{CompressionLvl, Compressor};
use protocol::export::{write_member_header, write_member_trailer};

use super::bits::BitWriter;
use super::block::Tokens;
use super::format::Formatter;
use super::shape::Shape;
use crate::store::Row;

/// Turns rows into gzip members that inflate to their [`crate::write_line`]s.
///
/// It keeps 2 MiB of lines until their member is finished, as the general compressor takes them whole; the member so far,
/// some 0.2 MB; the tokens of one block, 0.3 MB; what makes up tags, at most 3 MB, usually 0.1 MB; and the general
/// compressor, 1 MB, once it was needed. Whoever goes on when it [is full](Packer::is_full) makes all that larger.
pub struct Packer {
    formatter: Formatter,
    lines: Vec<u8>,
    rows: u64,
    shape: Shape,
    tokens: Tokens,
    deflated: BitWriter,
    /// Whether these lines repeat too little for [`Shape`].
    is_general: bool,
    general: Option<Compressor>,
}

impl Default for Packer {
    fn default() -> Self {
        Self {
            formatter: Formatter::default(),
            // What is not written to takes no memory; growing would end at twice as much as is needed.
            lines: Vec::with_capacity(Self::LINES_BYTES),
            rows: 0,
            shape: Shape::default(),
            tokens: Tokens::default(),
            deflated: BitWriter::default(),
            is_general: false,
            general: None,
        }
    }
}

impl Packer {
    /// Lines of a member. Each starts without knowing any tag's last line: with 1 MiB tags in random order come out larger
    /// than gzip has them, and 4 MiB take twice the memory for a hundredth of the size.
    const LINES_BYTES: usize = 2 << 20;
    /// From here on it is full; what is left is room for the row that fills it.
    pub const FULL_BYTES: usize = Self::LINES_BYTES - (64 << 10);
    /// Of the general compressor; 5 to 6 are as small as gzip's 6.
    const LEVEL: i32 = 6;

    /// Appends a row to the member.
    pub fn row(&mut self, row: &Row<'_>) {
        let written = self.formatter.write(&mut self.lines, row);
        self.rows += 1;
        if self.is_general {
            return;
        }
        self.shape.line(&self.lines, &written, &mut self.tokens);
        if self.tokens.is_full() {
            self.tokens.write_block(false, &mut self.deflated);
            self.is_general = self.repeats_too_little(Self::FIRST_LINES);
        }
    }

    /// Whether it is time to finish the member.
    pub fn is_full(&self) -> bool {
        self.lines.len() >= Self::FULL_BYTES
    }

    /// What the lines of the member are long, uncompressed.
    pub fn lines_bytes(&self) -> usize {
        self.lines.len()
    }

    /// The rows in the member.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The member, with the cursor of the place behind it if one can go on there; the packer is empty again.
    pub fn finish(&mut self, cursor_behind: Option<&str>) -> Vec<u8> {
        if !self.is_general {
            self.shape.finish(&self.lines, &mut self.tokens);
            self.is_general = self.repeats_too_little(0);
        }
        let mut member = Vec::new();
        write_member_header(&mut member, cursor_behind);
        if self.is_general {
            self.compress(&mut member);
        } else {
            self.tokens.write_block(true, &mut self.deflated);
            member.extend_from_slice(self.deflated.finish());
        }
        write_member_trailer(&mut member, crc32fast::hash(&self.lines), self.lines.len());
        self.clear();
        member
    }

    /// In the first lines of a member each tag is new; that so many bytes of them repeat nothing says little.
    const FIRST_LINES: usize = 16 << 10;

    /// Lines of ordinary shape come out more than half a byte smaller than gzip has them; of this they may lose a part.
    fn repeats_too_little(&self, forgiven: usize) -> bool {
        self.shape.unmatched().saturating_sub(forgiven) > self.rows as usize
    }

    fn compress(&mut self, member: &mut Vec<u8>) {
        let level = || CompressionLvl::new(Self::LEVEL).expect("libdeflate knows levels up to 12");
        let compressor = self.general.get_or_insert_with(|| Compressor::new(level()));
        // Zeroed pages that are not written to take no memory.
        let mut deflated = vec![0; compressor.deflate_compress_bound(self.lines.len())];
        let length = compressor.deflate_compress(&self.lines, &mut deflated).expect("it fits into what it may need");
        member.extend_from_slice(&deflated[..length]);
    }

    fn clear(&mut self) {
        self.lines.clear();
        self.rows = 0;
        self.shape.clear();
        self.tokens.clear();
        self.deflated.clear();
        self.is_general = false;
    }
}
