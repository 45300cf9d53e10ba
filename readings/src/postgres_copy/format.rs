//! Readings in `COPY`'s binary format, in and out: a header, tuples of fields, an end.

use crate::error::StoreError;
use crate::reading::Reading;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// seq, time, tag, value, quality, text.
const COLUMNS: i16 = 6;
const END: i16 = -1;
/// PostgreSQL counts microseconds from 2000-01-01.
const MICROS_1970_TO_2000: i64 = 946_684_800_000_000;

/// One tuple, where it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copied<'a> {
    pub seq: i64,
    /// Since 1970; infinite times are the last there are.
    pub micros: i64,
    pub tag: i32,
    pub value: Option<f64>,
    pub quality: i16,
    pub text: Option<&'a [u8]>,
}

/// How far the stream has been read. Each message of a server's `COPY` holds whole tuples, and the first one begins with
/// the header.
#[derive(Debug, Default)]
pub struct Rows {
    state: State,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Header,
    Tuples,
    Ended,
}

impl Rows {
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Reads the body of one `CopyData`.
    #[inline]
    pub fn read(
        &mut self,
        mut body: &[u8],
        each: &mut dyn FnMut(&Copied<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.state == State::Header {
            body = body.strip_prefix(HEADER).ok_or_else(|| strange("no header"))?;
            self.state = State::Tuples;
        }
        while !body.is_empty() {
            if self.ended() {
                return Err(strange("rows behind its end"));
            }
            match i16::from_be_bytes(take(&mut body)?) {
                COLUMNS => each(&row(&mut body)?)?,
                END => self.state = State::Ended,
                columns => return Err(strange(&format!("{columns} columns instead of {COLUMNS}"))),
            }
        }
        Ok(())
    }
}

#[inline]
fn row<'a>(body: &mut &'a [u8]) -> Result<Copied<'a>, StoreError> {
    Ok(Copied {
        seq: i64::from_be_bytes(required(body)?),
        micros: i64::from_be_bytes(required(body)?).saturating_add(MICROS_1970_TO_2000),
        tag: i32::from_be_bytes(required(body)?),
        value: optional(body)?.map(f64::from_be_bytes),
        quality: i16::from_be_bytes(required(body)?),
        text: text(body)?,
    })
}

#[inline]
fn take<const N: usize>(body: &mut &[u8]) -> Result<[u8; N], StoreError> {
    let (bytes, rest) = body.split_first_chunk().ok_or_else(torn)?;
    *body = rest;
    Ok(*bytes)
}

#[inline]
fn optional<const N: usize>(body: &mut &[u8]) -> Result<Option<[u8; N]>, StoreError> {
    match i32::from_be_bytes(take(body)?) {
        -1 => Ok(None),
        length if usize::try_from(length) == Ok(N) => take(body).map(Some),
        length => Err(strange(&format!("a field of {length} bytes instead of {N}"))),
    }
}

#[inline]
fn required<const N: usize>(body: &mut &[u8]) -> Result<[u8; N], StoreError> {
    optional(body)?.ok_or_else(|| strange("no value where one is required"))
}

#[inline]
fn text<'a>(body: &mut &'a [u8]) -> Result<Option<&'a [u8]>, StoreError> {
    let length = match i32::from_be_bytes(take(body)?) {
        -1 => return Ok(None),
        length => usize::try_from(length).map_err(|_| strange("a text of negative length"))?,
    };
    let (text, rest) = body.split_at_checked(length).ok_or_else(torn)?;
    *body = rest;
    Ok(Some(text))
}

#[cold]
fn torn() -> StoreError {
    strange("a row that ends too early")
}

#[cold]
fn strange(what: &str) -> StoreError {
    StoreError::Schema(format!("COPY sent {what}"))
}

/// The readings as `COPY … FROM STDIN (FORMAT binary)` takes them; `tags` has the id of each one's.
pub fn copy_frames(readings: &[Reading], first_seq: i64, tags: &[i32]) -> Vec<u8> {
    fn field(frames: &mut Vec<u8>, bytes: Option<&[u8]>) {
        let length = bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).expect("a text of a device is short"));
        frames.extend_from_slice(&length.to_be_bytes());
        frames.extend_from_slice(bytes.unwrap_or_default());
    }
    let mut frames = Vec::with_capacity(HEADER.len() + readings.len() * 64);
    frames.extend_from_slice(HEADER);
    for (seq, (reading, tag)) in (first_seq..).zip(readings.iter().zip(tags)) {
        frames.extend_from_slice(&COLUMNS.to_be_bytes());
        field(&mut frames, Some(&seq.to_be_bytes()));
        field(&mut frames, Some(&(reading.time.as_micros() - MICROS_1970_TO_2000).to_be_bytes()));
        field(&mut frames, Some(&tag.to_be_bytes()));
        field(&mut frames, reading.value.map(f64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        field(&mut frames, Some(&i16::from(reading.quality.0).to_be_bytes()));
        field(&mut frames, reading.text.as_deref().map(str::as_bytes));
    }
    frames.extend_from_slice(&END.to_be_bytes());
    frames
}
