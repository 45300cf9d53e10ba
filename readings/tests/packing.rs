//! Members of an export, against the plain way of making them: whatever the rows, they inflate to what `write_line` gives.

#![allow(clippy::unwrap_used, reason = "a test that goes wrong says where")]

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use flate2::read::MultiGzDecoder;
use protocol::Timestamp;
use protocol::export::{MemberReader, Whole, write_member};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use readings::export::{Formatter, Packer};
use readings::{Quality, Row, write_line};

/// A row that owns what it says.
#[derive(Clone)]
struct Made {
    seq: u64,
    time: Timestamp,
    tag_id: i64,
    tag: String,
    value: Option<f64>,
    unit: Option<String>,
    quality: Quality,
    text: Option<String>,
}

impl Made {
    fn row(&self) -> Row<'_> {
        Row {
            seq: self.seq,
            time: self.time,
            tag_id: self.tag_id,
            tag: &self.tag,
            value: self.value,
            unit: self.unit.as_deref(),
            quality: self.quality,
            text: self.text.as_deref(),
        }
    }
}

/// What collectors make all day: tags in turn, a value each second.
fn ordinary(tags: usize, rows: usize) -> impl Iterator<Item = Made> {
    let mut random = SmallRng::seed_from_u64(tags as u64);
    let mut values = vec![20_000_i64; tags];
    let signals = [("temperature_c", "C"), ("pressure_bar", "bar"), ("current_a", "A"), ("vibration_mm_s", "mm/s")];
    (0..rows).map(move |at| {
        let tag = at % tags;
        values[tag] += random.gen_range(-25..=25);
        let (signal, unit) = signals[tag % signals.len()];
        Made {
            seq: 1_000_000 + at as u64,
            time: Timestamp::from_micros(1_771_754_399_250_000 + (at / tags) as i64 * 1_000_000).unwrap(),
            tag_id: tag as i64 + 1,
            tag: format!("line1.press{:02}.{signal}", tag / signals.len()),
            value: Some(values[tag] as f64 / 1000.0),
            unit: Some(unit.to_owned()),
            quality: Quality::GOOD,
            text: None,
        }
    })
}

const TEXTS: [&str; 10] = [
    "",
    "a",
    "door \"A\" open",
    "back\\slash/and.dot",
    "control \u{0} \u{1f} \u{7f}\n\r\t",
    "é ü 漢字 🚪\u{301}",
    "\u{2028}\u{feff}\u{10ffff}",
    "}\n{\"seq\":1,\"time\":\"",
    "\",\"value\":",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];
const VALUES: [f64; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.1 + 0.2,
    1e15,
    1e16,
    1e21,
    1e-5,
    1e-7,
    1e308,
    f64::MAX,
    5e-324,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

fn odd_text(random: &mut SmallRng) -> String {
    let text = TEXTS.choose(random).unwrap();
    if random.gen_ratio(1, 20) { text.repeat(10_000 / text.len().max(1)) } else { (*text).to_owned() }
}

fn odd_value(random: &mut SmallRng) -> Option<f64> {
    match random.gen_range(0..5) {
        0 => None,
        1 => Some(f64::from_bits(random.r#gen())),
        2 => Some(f64::from(random.gen_range(-100_000..100_000)) / 1000.0),
        _ => VALUES.choose(random).copied(),
    }
}

fn odd_time(random: &mut SmallRng, before: Timestamp) -> Timestamp {
    let micros = match random.gen_range(0..8) {
        0 => random.gen_range(-62_135_596_800_000_000..=253_402_300_799_999_999),
        1 => [-62_135_596_800_000_000, -1, 0, 253_402_300_799_999_999].choose(random).copied().unwrap(),
        2 => before.as_micros() + random.gen_range(0..2_000),
        3 => before.as_micros() + 1_000 * random.gen_range(0..100_000_000),
        4 => before.as_micros().saturating_sub(1_000_000),
        _ => before.as_micros(),
    };
    Timestamp::from_micros(micros).unwrap_or(before)
}

/// Ordinary rows of some tags, into which `oddity` of a thousand oddities are strewn.
fn odd(seed: u64, tags: usize, rows: usize, oddity: u32) -> Vec<Made> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut rows: Vec<Made> = ordinary(tags, rows).collect();
    for row in &mut rows {
        let mut oddly = || random.gen_ratio(oddity, 1000);
        let [seq, other_time, id, tag, value, unit, quality, text] = std::array::from_fn(|_| oddly());
        row.seq =
            if seq { [0, 9, 10, u64::MAX, i64::MAX as u64].choose(&mut random).copied().unwrap() } else { row.seq };
        if other_time {
            row.time = odd_time(&mut random, row.time);
        }
        row.tag_id = if id { [0, 1, -1, i64::MIN, i64::MAX].choose(&mut random).copied().unwrap() } else { row.tag_id };
        row.tag = if tag { odd_text(&mut random) } else { std::mem::take(&mut row.tag) };
        row.value = if value { odd_value(&mut random) } else { row.value };
        row.unit = if unit { random.gen_ratio(1, 2).then(|| odd_text(&mut random)) } else { row.unit.take() };
        row.quality = if quality { Quality(random.r#gen()) } else { row.quality };
        row.text = text.then(|| odd_text(&mut random));
    }
    rows
}

fn lines<'a>(rows: impl IntoIterator<Item = &'a Made>) -> Vec<u8> {
    let mut lines = Vec::new();
    rows.into_iter().for_each(|row| write_line(&mut lines, &row.row()));
    lines
}

fn packed<'a>(packer: &mut Packer, rows: impl IntoIterator<Item = &'a Made>) -> Vec<u8> {
    rows.into_iter().for_each(|row| packer.row(&row.row()));
    packer.finish(None)
}

fn inflated(members: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    MultiGzDecoder::new(members).read_to_end(&mut lines).unwrap();
    lines
}

/// Without the texts in a message, which nobody could read.
#[track_caller]
fn assert_same(members: &[u8], lines: &[u8]) {
    let inflated = inflated(members);
    let differs = inflated.iter().zip(lines).position(|(one, other)| one != other);
    assert!(inflated == lines, "{} bytes instead of {}, differing at {differs:?}", inflated.len(), lines.len());
}

#[test]
fn a_formatted_line_is_a_written_line() {
    let mut formatter = Formatter::default();
    for oddity in [0, 20, 300, 1000] {
        for row in odd(7, 40, 3_000, oddity) {
            let (mut formatted, mut written) = (Vec::new(), Vec::new());
            formatter.write(&mut formatted, &row.row());
            write_line(&mut written, &row.row());
            assert_eq!(String::from_utf8_lossy(&formatted), String::from_utf8_lossy(&written));
        }
    }
}

#[test]
fn every_second_of_days_around_is_written_as_the_plain_writer_does() {
    let mut formatter = Formatter::default();
    let mut row = ordinary(1, 1).next().unwrap();
    for seconds in (-90_000..90_000).step_by(7).chain([-62_135_596_800, 253_402_300_799, 951_782_400, 68_169_600]) {
        for micros in [0, 1_000, 999_000, 1, 999_999, 250_001] {
            row.time = Timestamp::from_micros(seconds * 1_000_000 + micros).unwrap();
            let (mut formatted, mut written) = (Vec::new(), Vec::new());
            formatter.write(&mut formatted, &row.row());
            write_line(&mut written, &row.row());
            assert_eq!(String::from_utf8(formatted).unwrap(), String::from_utf8(written).unwrap());
        }
    }
}

#[test]
fn whatever_the_rows_a_member_inflates_to_their_lines() {
    let mut packer = Packer::default();
    for (seed, tags) in [1, 2, 3, 40, 200, 250, 300, 2000].into_iter().enumerate() {
        for oddity in [0, 1, 20, 300] {
            let mut rows = odd(seed as u64, tags, 4_000, oddity);
            assert_same(&packed(&mut packer, &rows), &lines(&rows));
            rows.shuffle(&mut SmallRng::seed_from_u64(seed as u64));
            assert_same(&packed(&mut packer, &rows), &lines(&rows));
        }
    }
}

#[test]
fn rows_of_hardly_anything_or_of_one_kind_are_members_too() {
    let mut packer = Packer::default();
    let one = ordinary(1, 1).next().unwrap();
    for rows in [vec![], vec![one.clone()], vec![one.clone(); 2], vec![one.clone(); 5_000]] {
        assert_same(&packed(&mut packer, &rows), &lines(&rows));
    }
    let long = |text: &str| Made { text: Some(text.repeat(10_000 / text.len())), tag: text.repeat(10), ..one.clone() };
    let rows: Vec<Made> = ["ab", "a", "🚪", "ab", "ab", "c", "a"].iter().map(|text| long(text)).collect();
    assert_same(&packed(&mut packer, &rows), &lines(&rows));
}

#[test]
fn a_tags_number_is_not_relied_on() {
    let mut rows: Vec<Made> = ordinary(20, 4_000).collect();
    let mut random = SmallRng::seed_from_u64(1);
    rows.iter_mut().for_each(|row| row.tag_id = random.gen_range(-2..3) * (1 << 40) + random.gen_range(0..3));
    assert_same(&packed(&mut Packer::default(), &rows), &lines(&rows));
}

#[test]
fn more_tags_than_are_kept_cost_size_only() {
    let many = |at: usize, row: Made| Made { tag_id: at as i64, tag: format!("{}{}", row.tag, at % 30_000), ..row };
    let long = |at: usize, row: Made| Made { tag: format!("{}{}", row.tag, "x".repeat(at % 700)), ..row };
    let plant = || ordinary(20, 20_000).enumerate();
    let mut packer = Packer::default();
    for rows in [plant().map(|(at, row)| many(at, row)).collect(), plant().map(|(at, row)| long(at, row)).collect()] {
        let rows: Vec<Made> = rows;
        assert_same(&packed(&mut packer, &rows), &lines(&rows));
        assert_same(&packed(&mut packer, rows.iter().rev()), &lines(rows.iter().rev()));
    }
}

#[test]
fn what_repeats_too_little_is_compressed_all_the_same_and_what_comes_after_as_ever() {
    let mut random = SmallRng::seed_from_u64(1);
    let mut noise: Vec<Made> = ordinary(2_000, 20_000).collect();
    noise.iter_mut().for_each(|row| row.text = Some(format!("{:x}", random.r#gen::<u128>()).repeat(2)));
    let usual: Vec<Made> = ordinary(200, 4_000).collect();
    let mut packer = Packer::default();
    let first = packed(&mut packer, &usual);
    let between = packed(&mut packer, &noise);
    assert_same(&between, &lines(&noise));
    assert!(between.len() < write_member(&lines(&noise), None).len() * 101 / 100);
    assert!(packed(&mut packer, &usual) == first);
}

#[test]
fn lines_of_ordinary_shape_come_out_smaller_than_zlib_has_them() {
    for tags in [1, 20, 200, 2_000] {
        let rows: Vec<Made> = ordinary(tags, 20_000).collect();
        let packed = packed(&mut Packer::default(), &rows).len();
        let plain = write_member(&lines(&rows), None).len();
        assert!(packed <= plain, "{packed} instead of {plain} bytes for {tags} tags");
    }
}

#[test]
fn each_members_cursor_reads_back() {
    let rows: Vec<Made> = ordinary(20, 3_000).collect();
    let mut packer = Packer::default();
    let mut reader = MemberReader::new(Whole::default());
    let mut read = Vec::new();
    for (at, part) in rows.chunks(700).enumerate() {
        part.iter().for_each(|row| packer.row(&row.row()));
        assert_eq!((packer.rows(), packer.lines_bytes()), (part.len() as u64, lines(part).len()));
        let cursor = (at != 1).then(|| format!("cursor-{at}"));
        let member = packer.finish(cursor.as_deref());
        assert_eq!((packer.rows(), packer.lines_bytes()), (0, 0));
        reader.read(&member, |lines| read.extend_from_slice(lines)).unwrap();
        assert!(reader.is_at_member_end());
        assert_eq!(reader.whole().cursor, cursor);
    }
    assert_eq!(reader.whole().lines, 3_000);
    assert!(read == lines(&rows));
}

#[cfg(unix)]
const JAVA: &str = "public class Unzip {
    public static void main(String[] none) throws Exception {
        new java.util.zip.GZIPInputStream(System.in).transferTo(System.out);
        System.out.flush();
    }
}";

/// Whoever opens an archive may do so with another program than ours.
#[cfg(unix)]
#[test]
fn other_programs_read_the_members_as_one_file() {
    let rows = odd(3, 200, 6_000, 10);
    let mut packer = Packer::default();
    let mut members = Vec::new();
    for part in rows.chunks(2_500) {
        part.iter().for_each(|row| packer.row(&row.row()));
        members.extend(packer.finish(Some("cursor")));
    }
    let python = "import gzip, sys; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))";
    let folder = tempfile::tempdir().unwrap();
    let java = folder.path().join("Unzip.java");
    std::fs::write(&java, JAVA).unwrap();
    let java = [java.to_str().unwrap()];
    let programs = [("gzip", &["-dc"][..]), ("pigz", &["-dc"]), ("python3", &["-c", python]), ("java", &java)];
    for (program, arguments) in programs {
        let started = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = match started {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            started => started.unwrap(),
        };
        let (mut input, members) = (child.stdin.take().unwrap(), &members);
        let output = std::thread::scope(|scope| {
            // Moved, so that it is closed at the end.
            scope.spawn(move || input.write_all(members).unwrap());
            child.wait_with_output().unwrap()
        });
        assert!(output.status.success() && output.stdout == lines(&rows), "{program}");
    }
}
