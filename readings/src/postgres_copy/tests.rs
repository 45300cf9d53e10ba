//! The server's side, played byte by byte: every way to cut its stream into reads, and whatever else it may say.

use std::io::{self, Read};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::format::Copied;
use super::messages::Messages;
use super::{fuzz_answer, read_answer};
use crate::error::StoreError;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Gives a few bytes at a time, and between them an interruption.
struct Pieces<'a> {
    bytes: &'a [u8],
    random: SmallRng,
    longest: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.random.gen_ratio(1, 8) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = self.random.gen_range(1..=self.longest).min(buffer.len());
        self.bytes.read(&mut buffer[..length])
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    numbers: (i64, i64, i32, i16),
    value: Option<u64>,
    text: Option<Vec<u8>>,
}

impl From<&Copied<'_>> for Owned {
    fn from(row: &Copied<'_>) -> Self {
        let micros = row.micros - 946_684_800_000_000;
        Self {
            numbers: (row.seq, micros, row.tag, row.quality),
            value: row.value.map(f64::to_bits),
            text: row.text.map(<[u8]>::to_vec),
        }
    }
}

impl Owned {
    fn random(random: &mut SmallRng) -> Self {
        let length = if random.gen_ratio(1, 20) { 5_000 } else { 40 };
        let text = random.gen_bool(0.5).then(|| (0..random.gen_range(0..length)).map(|_| random.r#gen()).collect());
        let micros = i64::from(random.r#gen::<i32>());
        Self { numbers: (random.r#gen(), micros, random.r#gen(), random.r#gen()), value: random.r#gen(), text }
    }

    fn tuple(&self) -> Vec<u8> {
        let (seq, micros, tag, quality) = self.numbers;
        let mut tuple = 6_i16.to_be_bytes().to_vec();
        let value = self.value.map(u64::to_be_bytes);
        for field in [
            Some(seq.to_be_bytes().as_slice()),
            Some(&micros.to_be_bytes()),
            Some(&tag.to_be_bytes()),
            value.as_ref().map(<[u8; 8]>::as_slice),
            Some(&quality.to_be_bytes()),
            self.text.as_deref(),
        ] {
            tuple.extend(field.map_or(-1, |field| field.len() as i32).to_be_bytes());
            tuple.extend(field.unwrap_or_default());
        }
        tuple
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as i32 + 4).to_be_bytes(), body].concat()
}

/// What a server answers: the header in the first row's message, as PostgreSQL has it, and news in between.
fn answer(rows: &[Owned], random: &mut SmallRng) -> Vec<u8> {
    let mut stream = message(b'H', &[1, 0, 6]);
    let mut body = HEADER.to_vec();
    for row in rows {
        body.extend(row.tuple());
        // Several rows in a message are not PostgreSQL's way, but within its promise.
        if random.gen_bool(0.9) {
            stream.extend(message(b'd', &body));
            body.clear();
        }
        if random.gen_ratio(1, 10) {
            stream.extend(message(b'N', b"SNOTICE\0Mbe patient\0\0"));
            stream.extend(message(b'S', b"TimeZone\0UTC\0"));
        }
    }
    body.extend((-1_i16).to_be_bytes());
    stream.extend(message(b'd', &body));
    stream.extend([message(b'c', &[]), message(b'C', b"COPY 7\0"), message(b'Z', b"I")].concat());
    stream
}

fn rows_of(stream: impl Read, buffer_bytes: usize) -> Result<Vec<Owned>, StoreError> {
    let mut rows = Vec::new();
    read_answer(&mut Messages::new(stream, buffer_bytes), &mut |row| {
        rows.push(row.into());
        Ok(())
    })?;
    Ok(rows)
}

#[test]
fn rows_come_out_however_their_bytes_arrive() {
    for seed in 0..300 {
        let mut random = SmallRng::seed_from_u64(seed);
        let rows: Vec<Owned> = (0..random.gen_range(0..60)).map(|_| Owned::random(&mut random)).collect();
        let stream = answer(&rows, &mut random);
        let (longest, buffer) = (random.gen_range(1..200), random.gen_range(0..300));
        let pieces = Pieces { bytes: &stream, random, longest };
        assert_eq!(rows_of(pieces, buffer).unwrap(), rows, "seed {seed}");
    }
}

#[test]
fn a_stream_that_ends_early_is_an_error_wherever_it_ends() {
    let mut random = SmallRng::seed_from_u64(1);
    let rows: Vec<Owned> = (0..5).map(|_| Owned::random(&mut random)).collect();
    let stream = answer(&rows, &mut random);
    for end in 0..stream.len() {
        let error = rows_of(&stream[..end], 64).unwrap_err();
        assert!(matches!(error, StoreError::Unreachable(_)), "{end}: {error}");
    }
}

/// One changed byte may be another number or another letter; it is never a panic.
#[test]
fn changed_bytes_are_another_answer_or_an_error() {
    for seed in 0..2_000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let rows: Vec<Owned> = (0..8).map(|_| Owned::random(&mut random)).collect();
        let mut stream = answer(&rows, &mut random);
        for _ in 0..random.gen_range(1..4) {
            let at = random.gen_range(0..stream.len());
            stream[at] = random.r#gen();
        }
        fuzz_answer(&stream[..], 128);
    }
}

#[test]
fn a_lying_server_is_told_apart() {
    let row = Owned { numbers: (1, 2, 3, 4), value: None, text: None }.tuple();
    let first = |tuple: &[u8]| message(b'd', &[HEADER, tuple].concat());
    let changed = |at: usize, bytes: &[u8]| {
        let mut row = row.clone();
        row[at..at + bytes.len()].copy_from_slice(bytes);
        first(&row)
    };
    let end = [message(b'C', b"COPY 1\0"), message(b'Z', b"I")].concat();
    for (what, stream) in [
        ("a message of -1 bytes", [b"d".as_slice(), &(-1_i32).to_be_bytes()].concat()),
        ("a message of 3 bytes", [b"d".as_slice(), &3_i32.to_be_bytes()].concat()),
        ("a message of 2147483647 bytes", [b"d".as_slice(), &i32::MAX.to_be_bytes()].concat()),
        ("closed the connection", [b"d".as_slice(), &(60_i32 << 20).to_be_bytes(), HEADER].concat()),
        ("no header", message(b'd', &row)),
        ("no header", message(b'd', &[])),
        ("7 columns", changed(0, &7_i16.to_be_bytes())),
        ("0 columns", changed(0, &0_i16.to_be_bytes())),
        ("-2 columns", changed(0, &(-2_i16).to_be_bytes())),
        ("field of 4 bytes", changed(2, &4_i32.to_be_bytes())),
        ("field of -2 bytes", changed(2, &(-2_i32).to_be_bytes())),
        ("no value", changed(2, &(-1_i32).to_be_bytes())),
        ("ends too early", changed(row.len() - 4, &9_i32.to_be_bytes())),
        ("ends too early", changed(row.len() - 4, &i32::MAX.to_be_bytes())),
        ("negative length", changed(row.len() - 4, &i32::MIN.to_be_bytes())),
        ("ends too early", first(&row[..20])),
        ("behind its end", first(&[&(-1_i16).to_be_bytes(), &row[..]].concat())),
        ("not whole", end.clone()),
        ("not whole", [first(&row), end.clone()].concat()),
        ("not whole", [first(&(-1_i16).to_be_bytes()), message(b'Z', b"I")].concat()),
        ("a message `G`", message(b'G', &[])),
        ("no such table (really)", message(b'E', b"SERROR\0C42P01\0Mno such table\0Dreally\0\0")),
        ("the database refused: ", message(b'E', b"")),
    ] {
        let error = rows_of(&stream[..], 32).unwrap_err().to_string();
        assert!(error.contains(what), "{what}: {error}");
    }
}

#[test]
fn a_claimed_length_takes_no_memory_before_its_bytes_arrive() {
    let mut stream = [b"d".as_slice(), &(60_i32 << 20).to_be_bytes()].concat();
    stream.resize(10_000, 0);
    let mut messages = Messages::new(&stream[..], 64);
    assert!(messages.next().is_err());
    assert!(messages.capacity() <= 20_000, "{}", messages.capacity());
    let long = message(b'd', &vec![7; 100_000]);
    let mut messages = Messages::new(&long[..], 64);
    assert_eq!(messages.next().unwrap().body.len(), 100_000);
    messages.shrink_to(64);
    assert!(messages.capacity() < 1_000);
}
