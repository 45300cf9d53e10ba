//! Rows of whatever content and order, packed into members. What inflates from these is what the plain writer makes of the
//! rows, and the last cursor reads back.
#![no_main]

use std::io::Read as _;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use protocol::Timestamp;
use protocol::export::{MemberReader, Whole};
use readings::export::Packer;
use readings::{Quality, Row, write_line};

#[derive(Arbitrary, Debug)]
struct Recipe {
    tags: Vec<Tag>,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
struct Tag {
    id: i64,
    name: String,
    /// So often, so that a short recipe makes long names.
    times: u16,
    unit: Option<String>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// All tags in turn, so often.
    Rounds { rounds: u8, seq: u64, micros: i64, later_by: i32, value: f64, more_by: f32 },
    /// One row.
    Row { tag: u8, seq: u64, micros: i64, value: Option<f64>, quality: u8, text: Option<String>, times: u16 },
    Member { cursor: Option<u16> },
}

const TIMES: u16 = 2_000;

fuzz_target!(|recipe: Recipe| {
    let tags: Vec<(i64, String, Option<&str>)> = recipe
        .tags
        .iter()
        .map(|tag| (tag.id, tag.name.repeat(usize::from(tag.times % TIMES)), tag.unit.as_deref()))
        .collect();
    if tags.is_empty() {
        return;
    }
    let (mut packer, mut lines, mut members, mut last_cursor) = (Packer::default(), Vec::new(), Vec::new(), None);
    for step in &recipe.steps {
        let mut row = |tag: usize, seq, micros: i64, value, quality, text: Option<&str>| {
            let (tag_id, ref tag, unit) = tags[tag % tags.len()];
            let time = Timestamp::from_micros(micros).unwrap_or(Timestamp::EPOCH);
            let row = Row { seq, time, tag_id, tag, value, unit, quality: Quality(quality), text };
            packer.row(&row);
            write_line(&mut lines, &row);
        };
        match step {
            Step::Rounds { rounds, seq, micros, later_by, value, more_by } => {
                for at in 0..(usize::from(*rounds) * tags.len()).min(10_000) {
                    let micros = micros.wrapping_add(at as i64 * i64::from(*later_by));
                    row(at, seq.wrapping_add(at as u64), micros, Some(value + at as f64 * f64::from(*more_by)), 192, None);
                }
            }
            Step::Row { tag, seq, micros, value, quality, text, times } => {
                let text = text.as_ref().map(|text| text.repeat(usize::from(times % TIMES)));
                row(usize::from(*tag), *seq, *micros, *value, *quality, text.as_deref());
            }
            Step::Member { cursor } => {
                last_cursor = cursor.map(|cursor| cursor.to_string());
                members.extend(packer.finish(last_cursor.as_deref()));
            }
        }
        if lines.len() > 8 << 20 {
            break;
        }
    }
    if packer.rows() > 0 || members.is_empty() {
        last_cursor = Some("behind".to_owned());
        members.extend(packer.finish(last_cursor.as_deref()));
    }
    let mut inflated = Vec::new();
    flate2::read::MultiGzDecoder::new(&members[..]).read_to_end(&mut inflated).expect("gzip");
    assert!(inflated == lines);
    let mut reader = MemberReader::new(Whole::default());
    reader.read(&members, |_| ()).expect("members");
    let whole = reader.whole();
    assert_eq!((whole.bytes, &whole.cursor), (members.len() as u64, &last_cursor));
    assert_eq!(whole.lines, lines.iter().filter(|byte| **byte == b'\n').count() as u64);
});
