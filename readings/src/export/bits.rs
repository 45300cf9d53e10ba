//! Bits, packed from each byte's lowest on (RFC 1951, 3.1.1).

/// Appends bits to bytes; whole words at a time, as a store for each code would cost more than the code.
#[derive(Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Its lowest `filled` bits are still to be written.
    word: u64,
    filled: u32,
}

impl BitWriter {
    /// The most that [`BitWriter::put`] takes at once: both codes of a match with their extra bits.
    pub const WIDEST: u32 = 15 + 5 + 15 + 13;

    /// Appends the `count` lowest bits of `bits`; those above are zero.
    #[inline]
    pub fn put(&mut self, bits: u64, count: u32) {
        debug_assert!(count <= Self::WIDEST && bits >> count == 0);
        self.word |= bits << self.filled;
        self.filled += count;
        if self.filled >= u64::BITS {
            self.bytes.extend_from_slice(&self.word.to_le_bytes());
            self.filled -= u64::BITS;
            // What did not fit. At least one bit did, so this shifts by `count` at most.
            self.word = bits >> (count - self.filled);
        }
    }

    /// The bytes so far, once zeros have filled the last of them.
    pub fn finish(&mut self) -> &[u8] {
        let left = self.filled.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.word.to_le_bytes()[..left]);
        (self.word, self.filled) = (0, 0);
        &self.bytes
    }

    /// Begins anew, in the same memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        (self.word, self.filled) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    #[test]
    fn bits_come_back_lowest_first_whatever_their_widths() {
        let mut random = SmallRng::seed_from_u64(1);
        for _ in 0..200 {
            let (mut writer, mut plain) = (BitWriter::default(), Vec::new());
            for _ in 0..random.gen_range(0..100) {
                let count = random.gen_range(0..=BitWriter::WIDEST);
                let bits = random.r#gen::<u64>() & ((1 << count) - 1);
                writer.put(bits, count);
                plain.extend((0..count).map(|at| bits >> at & 1 == 1));
            }
            let bytes = writer.finish();
            assert_eq!(bytes.len(), plain.len().div_ceil(8));
            let written = (0..bytes.len() * 8).map(|at| bytes[at / 8] >> (at % 8) & 1 == 1);
            assert!(written.eq(plain.iter().copied().chain(std::iter::repeat_n(false, bytes.len() * 8 - plain.len()))));
        }
    }
}
