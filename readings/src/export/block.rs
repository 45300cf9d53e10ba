//! Literals and matches, and the DEFLATE blocks that they become (RFC 1951, 3.2.3 to 3.2.7).

use super::bits::BitWriter;
use super::huffman::{Code, codes};

pub const SHORTEST_MATCH: usize = 3;
pub const LONGEST_MATCH: usize = 258;
pub const FARTHEST: usize = 1 << 15;

const LITERALS_AND_LENGTHS: usize = 286;
const DISTANCES: usize = 30;
const END_OF_BLOCK: usize = 256;
const FIRST_LENGTH: usize = 257;

/// Literals and matches of the block that is being gathered, and how often each symbol occurs in it.
pub struct Tokens {
    /// A literal's byte; or, above [`IS_MATCH`], a match's length and its distance less one.
    tokens: Vec<u32>,
    literals_and_lengths: [u32; LITERALS_AND_LENGTHS],
    distances: [u32; DISTANCES],
}

const IS_MATCH: u32 = 1 << 31;
const LENGTH_AT: u32 = 16;

impl Default for Tokens {
    fn default() -> Self {
        Self {
            tokens: Vec::with_capacity(Self::FULL + Self::OF_A_LINE),
            literals_and_lengths: [0; LITERALS_AND_LENGTHS],
            distances: [0; DISTANCES],
        }
    }
}

impl Tokens {
    /// A block's own codes take some 80 bytes, which so many tokens make up for many times.
    const FULL: usize = 1 << 16;

    /// What the line that fills it may add before memory has to grow.
    const OF_A_LINE: usize = 1 << 10;

    pub fn is_full(&self) -> bool {
        self.tokens.len() >= Self::FULL
    }

    pub fn clear(&mut self) {
        self.tokens.clear();
        self.literals_and_lengths = [0; LITERALS_AND_LENGTHS];
        self.distances = [0; DISTANCES];
    }

    #[inline]
    pub fn literals(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.literals_and_lengths[usize::from(*byte)] += 1;
            self.tokens.push(u32::from(*byte));
        }
    }

    /// `length` and `distance` within what DEFLATE can say.
    #[inline]
    pub fn repeat(&mut self, length: usize, distance: usize) {
        debug_assert!((SHORTEST_MATCH..=LONGEST_MATCH).contains(&length) && (1..=FARTHEST).contains(&distance));
        self.literals_and_lengths[usize::from(LENGTHS[length].symbol)] += 1;
        self.distances[distance_symbol(distance as u32 - 1).0] += 1;
        self.tokens.push(IS_MATCH | (length as u32) << LENGTH_AT | (distance as u32 - 1));
    }

    /// Writes the block and begins the next.
    pub fn write_block(&mut self, is_last: bool, writer: &mut BitWriter) {
        self.literals_and_lengths[END_OF_BLOCK] = 1;
        let literals_and_lengths = codes(&self.literals_and_lengths, 15);
        let distances = codes(&self.distances, 15);
        writer.put(u64::from(is_last), 1);
        const DYNAMIC_CODES: u64 = 2;
        writer.put(DYNAMIC_CODES, 2);
        write_codes(&literals_and_lengths, &distances, writer);

        let lengths: [(u64, u32); LONGEST_MATCH + 1] = std::array::from_fn(|length| {
            let Length { symbol, extra, extra_bits } = LENGTHS[length];
            let code = literals_and_lengths[usize::from(symbol)];
            (u64::from(code.bits) | u64::from(extra) << code.length, u32::from(code.length) + u32::from(extra_bits))
        });
        for token in &self.tokens {
            if token & IS_MATCH == 0 {
                put(writer, literals_and_lengths[*token as usize & 0xff]);
                continue;
            }
            let (bits, count) = lengths[(token >> LENGTH_AT) as usize & 0x1ff];
            let distance = token & (FARTHEST as u32 - 1);
            let (symbol, extra_bits) = distance_symbol(distance);
            let code = distances[symbol];
            let extra = u64::from(distance & ((1 << extra_bits) - 1));
            let distance = u64::from(code.bits) | extra << code.length;
            writer.put(bits | distance << count, count + u32::from(code.length) + extra_bits);
        }
        put(writer, literals_and_lengths[END_OF_BLOCK]);
        self.clear();
    }
}

fn put(writer: &mut BitWriter, code: Code) {
    writer.put(u64::from(code.bits), u32::from(code.length));
}

/// How a match's length is written: the symbol, and which extra bits follow it.
#[derive(Clone, Copy)]
struct Length {
    symbol: u16,
    extra: u8,
    extra_bits: u8,
}

/// The table of 3.2.5, spelled out for each length; those below three are not written.
const LENGTHS: [Length; LONGEST_MATCH + 1] = {
    let mut lengths = [Length { symbol: FIRST_LENGTH as u16, extra: 0, extra_bits: 0 }; LONGEST_MATCH + 1];
    let mut length = SHORTEST_MATCH;
    while length < LONGEST_MATCH {
        let above = (length - SHORTEST_MATCH) as u16;
        let extra_bits = if above < 8 { 0 } else { above.ilog2() as u8 - 2 };
        let symbol = FIRST_LENGTH as u16 + 4 * extra_bits as u16 + (above >> extra_bits);
        lengths[length] = Length { symbol, extra: (above & ((1 << extra_bits) - 1)) as u8, extra_bits };
        length += 1;
    }
    lengths[LONGEST_MATCH].symbol = LITERALS_AND_LENGTHS as u16 - 1;
    lengths
};

/// The symbol of a distance (less one), and how many of its lowest bits follow.
#[inline]
fn distance_symbol(less_one: u32) -> (usize, u32) {
    // Two symbols for each power of two: its two highest bits decide.
    let extra_bits = (less_one | 2).ilog2() - 1;
    ((2 * extra_bits + (less_one >> extra_bits)) as usize, extra_bits)
}

/// The lengths of both codes, themselves run-length and Huffman coded (3.2.7).
fn write_codes(literals_and_lengths: &[Code], distances: &[Code], writer: &mut BitWriter) {
    let used = |codes: &[Code], least: usize| {
        codes.iter().rposition(|code| code.length > 0).map_or(least, |last| (last + 1).max(least))
    };
    let literals_and_lengths = &literals_and_lengths[..used(literals_and_lengths, 257)];
    let distances = &distances[..used(distances, 1)];
    let lengths: Vec<u8> = literals_and_lengths.iter().chain(distances).map(|code| code.length).collect();
    let runs = run_lengths(&lengths);

    let mut occurrences = [0_u32; 19];
    runs.iter().for_each(|run| occurrences[usize::from(run.symbol)] += 1);
    let codes = codes(&occurrences, 7);
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let sent = ORDER.iter().rposition(|symbol| codes[*symbol].length > 0).map_or(4, |last| (last + 1).max(4));

    writer.put(literals_and_lengths.len() as u64 - 257, 5);
    writer.put(distances.len() as u64 - 1, 5);
    writer.put(sent as u64 - 4, 4);
    for symbol in &ORDER[..sent] {
        writer.put(u64::from(codes[*symbol].length), 3);
    }
    for run in runs {
        put(writer, codes[usize::from(run.symbol)]);
        writer.put(u64::from(run.extra), run.extra_bits);
    }
}

/// A code length, or a repetition of one.
struct Run {
    symbol: u8,
    extra: u8,
    extra_bits: u32,
}

fn run_lengths(lengths: &[u8]) -> Vec<Run> {
    let mut runs = Vec::new();
    for equal in lengths.chunk_by(|one, other| one == other) {
        let (length, mut left) = (equal[0], equal.len());
        if length > 0 {
            // "The previous length again" needs one before it.
            runs.push(Run { symbol: length, extra: 0, extra_bits: 0 });
            left -= 1;
        }
        while left > 0 {
            let (symbol, taken, least, extra_bits) = match (length, left) {
                (0, 11..) => (18, left.min(138), 11, 7),
                (0, 3..) => (17, left.min(10), 3, 3),
                (1.., 3..) => (16, left.min(6), 3, 2),
                _ => (length, 1, 1, 0),
            };
            runs.push(Run { symbol, extra: (taken - least) as u8, extra_bits });
            left -= taken;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn inflated(writer: &mut BitWriter) -> Vec<u8> {
        let mut text = Vec::new();
        flate2::read::DeflateDecoder::new(writer.finish()).read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn every_length_and_distance_is_read_as_it_was_meant() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut text: Vec<u8> = (0..FARTHEST).map(|_| random.r#gen()).collect();
        let (mut tokens, mut writer) = (Tokens::default(), BitWriter::default());
        tokens.literals(&text);
        let mut repeat = |length: usize, distance: usize| {
            tokens.repeat(length, distance);
            (0..length).for_each(|_| text.push(text[text.len() - distance]));
            if tokens.is_full() {
                tokens.write_block(false, &mut writer);
            }
        };
        (1..=FARTHEST).for_each(|distance| repeat(random.gen_range(SHORTEST_MATCH..=LONGEST_MATCH), distance));
        (SHORTEST_MATCH..=LONGEST_MATCH).for_each(|length| repeat(length, random.gen_range(1..=FARTHEST)));
        tokens.write_block(true, &mut writer);
        assert!(inflated(&mut writer) == text);
    }

    #[test]
    fn blocks_of_hardly_anything_are_blocks() {
        for text in [&b""[..], b"a", b"aa", b"ab", &[0xff; 40]] {
            let (mut tokens, mut writer) = (Tokens::default(), BitWriter::default());
            tokens.write_block(false, &mut writer);
            tokens.literals(text);
            tokens.write_block(true, &mut writer);
            assert_eq!(inflated(&mut writer), text);
        }
    }
}
