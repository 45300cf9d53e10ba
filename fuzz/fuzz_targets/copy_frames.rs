//! Any bytes as what a PostgreSQL server answers to a `COPY`. However they arrive, they mean the same.
#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;

/// Gives so many bytes at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    longest: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.longest);
        self.bytes.read(&mut buffer[..length])
    }
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (longest, buffer_bytes, bytes) = input;
    let whole = readings::fuzz_answer(bytes, 1 << 16);
    let pieces = Pieces { bytes, longest: usize::from(longest) + 1 };
    assert_eq!(readings::fuzz_answer(pieces, buffer_bytes.into()), whole);
});
