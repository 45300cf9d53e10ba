//! A record's payload: writer and reader of one format, all numbers little-endian.
//!
//! `position u64, known (u8; then epoch text, position u64), gaps u32 × (from i64, to i64, readings u64, reason text), first tag u32, tags u32 × (name text, u8, unit text), readings u32 ×
//! (time i64, tag u32, quality u8, has u8, value f64, text)`; a text is its length as u32 and its bytes. Tags are listed
//! in the record in which they first occur in their segment and are counted through the segment from zero; `first tag` is
//! the number of the first one listed, so that a record that was damaged cannot shift the names of later ones.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::Timestamp;
use protocol::export::Gap;
use readings::{Quality, Reading};

/// What the collector knew of the database when it wrote a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub epoch: String,
    /// Everything up to here is stored.
    pub position: u64,
}

type Tag = (Arc<str>, Option<Arc<str>>);

/// A segment's tags.
#[derive(Default)]
pub struct Dictionary {
    /// `None`: listed in a record that is damaged.
    tags: Vec<Option<Tag>>,
    numbers: HashMap<Tag, u32>,
}

pub struct Record {
    pub position: u64,
    pub known: Option<Known>,
    pub gaps: Vec<Gap>,
    pub readings: Vec<Reading>,
}

/// The payload is not what `encode` makes.
#[derive(Debug)]
pub struct Malformed;

const HAS_VALUE: u8 = 1;
const HAS_TEXT: u8 = 2;

impl Dictionary {
    fn push(&mut self, tag: Tag) -> u32 {
        let number = u32::try_from(self.tags.len()).expect("a segment of some megabytes has fewer tags");
        self.tags.push(Some(tag.clone()));
        self.numbers.insert(tag, number);
        number
    }
}

pub fn encode(
    position: u64,
    known: Option<&Known>,
    gaps: &[Gap],
    readings: &[Reading],
    dictionary: &mut Dictionary,
) -> Vec<u8> {
    let mut payload = Vec::with_capacity(64 + readings.len() * 24);
    payload.extend_from_slice(&position.to_le_bytes());
    payload.push(known.is_some().into());
    if let Some(known) = known {
        put_text(&mut payload, &known.epoch);
        payload.extend_from_slice(&known.position.to_le_bytes());
    }
    payload.extend_from_slice(&(gaps.len() as u32).to_le_bytes());
    for gap in gaps {
        payload.extend_from_slice(&gap.from.as_micros().to_le_bytes());
        payload.extend_from_slice(&gap.to.as_micros().to_le_bytes());
        payload.extend_from_slice(&gap.readings.to_le_bytes());
        put_text(&mut payload, &gap.reason);
    }
    let first_new = dictionary.tags.len();
    let mut numbers = Vec::with_capacity(readings.len());
    for reading in readings {
        let tag = (reading.tag.clone(), reading.unit.clone());
        let number = dictionary.numbers.get(&tag).copied();
        numbers.push(number.unwrap_or_else(|| dictionary.push(tag)));
    }
    let new = &dictionary.tags[first_new..];
    payload.extend_from_slice(&(first_new as u32).to_le_bytes());
    payload.extend_from_slice(&(new.len() as u32).to_le_bytes());
    for (name, unit) in new.iter().flatten() {
        put_text(&mut payload, name);
        payload.push(unit.is_some().into());
        put_text(&mut payload, unit.as_deref().unwrap_or_default());
    }
    payload.extend_from_slice(&(readings.len() as u32).to_le_bytes());
    for (reading, number) in readings.iter().zip(numbers) {
        payload.extend_from_slice(&reading.time.as_micros().to_le_bytes());
        payload.extend_from_slice(&number.to_le_bytes());
        payload.push(reading.quality.0);
        let has =
            if reading.value.is_some() { HAS_VALUE } else { 0 } | if reading.text.is_some() { HAS_TEXT } else { 0 };
        payload.push(has);
        payload.extend_from_slice(&reading.value.unwrap_or(0.0).to_le_bytes());
        put_text(&mut payload, reading.text.as_deref().unwrap_or_default());
    }
    payload
}

/// Reads a record, in the order in which records were written; its new tags go to `dictionary`.
pub fn decode(payload: &[u8], dictionary: &mut Dictionary) -> Result<Record, Malformed> {
    let mut rest = payload;
    let Start { position, known, gaps, first_tag, tags } = decode_start(&mut rest)?;
    let listed = dictionary.tags.len().max(first_tag);
    if first_tag < dictionary.tags.len() || listed - dictionary.tags.len() > MOST_TAGS_LOST {
        return Err(Malformed);
    }
    dictionary.tags.resize(listed, None);
    for tag in tags {
        dictionary.push(tag);
    }
    Ok(Record { position, known, gaps, readings: decode_readings(rest, dictionary)? })
}

/// Reads a record again whose tags are in `dictionary` already.
pub fn decode_known(payload: &[u8], dictionary: &Dictionary) -> Result<Vec<Reading>, Malformed> {
    let mut rest = payload;
    decode_start(&mut rest)?;
    decode_readings(rest, dictionary)
}

/// What stands before the readings.
struct Start {
    position: u64,
    known: Option<Known>,
    gaps: Vec<Gap>,
    first_tag: usize,
    tags: Vec<Tag>,
}

/// More tags than one segment can list.
const MOST_TAGS_LOST: usize = 1 << 20;

fn decode_start(rest: &mut &[u8]) -> Result<Start, Malformed> {
    let position = u64::from_le_bytes(take(rest)?);
    let known = match take::<1>(rest)? {
        [0] => None,
        _ => Some(Known { epoch: text(rest)?.to_owned(), position: u64::from_le_bytes(take(rest)?) }),
    };
    let mut gaps = Vec::new();
    for _ in 0..u32::from_le_bytes(take(rest)?) {
        let [from, to] = [time(rest)?, time(rest)?];
        gaps.push(Gap { from, to, readings: u64::from_le_bytes(take(rest)?), reason: text(rest)?.to_owned() });
    }
    let first_tag = u32::from_le_bytes(take(rest)?) as usize;
    let count = u32::from_le_bytes(take(rest)?);
    let mut tags = Vec::new();
    for _ in 0..count {
        let name = text(rest)?.into();
        let [has_unit] = take(rest)?;
        let unit = text(rest)?;
        tags.push((name, (has_unit != 0).then(|| unit.into())));
    }
    Ok(Start { position, known, gaps, first_tag, tags })
}

fn decode_readings(mut rest: &[u8], dictionary: &Dictionary) -> Result<Vec<Reading>, Malformed> {
    let rest = &mut rest;
    let count = u32::from_le_bytes(take(rest)?);
    let mut readings = Vec::new();
    for _ in 0..count {
        let time = time(rest)?;
        let number = u32::from_le_bytes(take(rest)?);
        let (tag, unit) = dictionary.tags.get(number as usize).cloned().flatten().ok_or(Malformed)?;
        let [quality, has] = take(rest)?;
        let value = f64::from_le_bytes(take(rest)?);
        let text = text(rest)?;
        readings.push(Reading {
            time,
            tag,
            value: (has & HAS_VALUE != 0).then_some(value),
            unit,
            quality: Quality(quality),
            text: (has & HAS_TEXT != 0).then(|| text.to_owned()),
        });
    }
    if rest.is_empty() { Ok(readings) } else { Err(Malformed) }
}

fn put_text(payload: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("a text of a device is short");
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(text.as_bytes());
}

fn time(rest: &mut &[u8]) -> Result<Timestamp, Malformed> {
    Timestamp::from_micros(i64::from_le_bytes(take(rest)?)).ok_or(Malformed)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (bytes, behind) = rest.split_first_chunk().ok_or(Malformed)?;
    *rest = behind;
    Ok(*bytes)
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    let length = u32::from_le_bytes(take(rest)?) as usize;
    let (bytes, behind) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = behind;
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}
