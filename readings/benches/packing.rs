//! `cargo bench -p readings --bench packing`: what it costs to turn rows into gzip, stage by stage, each way in turn in
//! every round. `-- --quick` is a small one, which shows that it works and no more.

#![allow(clippy::unwrap_used, reason = "a measurement that goes wrong says where")]

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use comfy_table::{Table, presets};
use flate2::read::MultiGzDecoder;
use libdeflater::{CompressionLvl, Compressor};
use protocol::Timestamp;
use protocol::export::write_member;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use readings::export::{Formatter, Packer};
use readings::{Quality, Row, write_line};

struct Scale {
    rounds: usize,
    rows: usize,
}

const FULL: Scale = Scale { rounds: 3, rows: 1_000_000 };
const QUICK: Scale = Scale { rounds: 1, rows: 60_000 };

/// What the present way closes a member at.
const SMALL_MEMBER: usize = 1 << 20;

fn main() {
    let scale = if std::env::args().any(|argument| argument == "--quick") { QUICK } else { FULL };
    let plain = Plant { tags: 200, jitter_micros: 0, is_shuffled: false, is_mixed: false };
    for (title, plant) in [
        ("200 tags, a value each second", plain),
        ("2,000 tags, a value each second", Plant { tags: 2_000, ..plain }),
        ("200 tags, each at a time of its own", Plant { jitter_micros: 3_217, ..plain }),
        ("200 tags in random order", Plant { jitter_micros: 3_217, is_shuffled: true, ..plain }),
        ("2,000 tags in random order", Plant { tags: 2_000, jitter_micros: 327, is_shuffled: true, ..plain }),
        ("200 tags, of which 20 are texts and 40 setpoints, some uncertain", Plant { is_mixed: true, ..plain }),
        ("1 tag", Plant { tags: 1, ..plain }),
    ] {
        let rows = Rows::new(scale.rows, plant);
        println!("\n{title}; {} rows, {} bytes a line\n", scale.rows, rows.lines().len() / scale.rows);
        println!("{}", measured(&rows, scale.rounds));
    }
}

#[derive(Clone, Copy)]
struct Plant {
    tags: usize,
    /// How much later than the one before a tag is read.
    jitter_micros: i64,
    is_shuffled: bool,
    is_mixed: bool,
}

/// Each way's seconds and sizes, round by round, as a table.
fn measured(rows: &Rows, rounds: usize) -> Table {
    type Way = (&'static str, fn(&Rows) -> Vec<u8>);
    const WAYS: [Way; 6] = [
        ("write_line", |rows| in_members(rows, |_| Vec::new())),
        ("Formatter", formatted),
        ("write_line, flate2 6", |rows| in_members(rows, |lines| write_member(lines, None))),
        ("write_line, libdeflate 5", |rows| libdeflate(rows, 5)),
        ("write_line, libdeflate 6", |rows| libdeflate(rows, 6)),
        ("Packer", packed),
    ];
    let lines = rows.lines();
    let mut seconds = vec![Vec::new(); WAYS.len()];
    let mut sizes = [0; WAYS.len()];
    for round in 0..rounds {
        for (at, (name, way)) in WAYS.iter().enumerate() {
            let begin = Instant::now();
            let made = way(rows);
            seconds[at].push(begin.elapsed().as_secs_f64());
            sizes[at] = made.len();
            if round == 0 && !made.is_empty() {
                let mut inflated = Vec::new();
                MultiGzDecoder::new(&made[..]).read_to_end(&mut inflated).unwrap();
                assert!(inflated == lines, "{name} makes other lines");
            }
        }
    }
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["way", "median (s)", "from – to (s)", "times Packer's", "from – to", "size (MB)"]);
    let packer = seconds.last().unwrap().clone();
    for (at, (name, _)) in WAYS.iter().enumerate() {
        let ratios: Vec<f64> = packer.iter().zip(&seconds[at]).map(|(packer, other)| other / packer).collect();
        let (middle, least, most) = spread(&seconds[at]);
        let (ratio, lowest, highest) = spread(&ratios);
        table.add_row([
            (*name).to_owned(),
            format!("{middle:.3}"),
            format!("{least:.3} – {most:.3}"),
            format!("{ratio:.2}"),
            format!("{lowest:.2} – {highest:.2}"),
            if sizes[at] > 0 { format!("{:.2}", sizes[at] as f64 / 1e6) } else { String::new() },
        ]);
    }
    let gzip = gzip(&lines).map_or("no gzip here".to_owned(), |size| format!("{:.2}", size as f64 / 1e6));
    table.add_row(["gzip -6 of the whole", "", "", "", "", &gzip]);
    table
}

fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn formatted(rows: &Rows) -> Vec<u8> {
    let (mut formatter, mut lines) = (Formatter::default(), Vec::new());
    rows.each(|row| {
        formatter.write(&mut lines, row);
        if lines.len() >= SMALL_MEMBER {
            black_box(&mut lines).clear();
        }
    });
    Vec::new()
}

fn in_members(rows: &Rows, mut member: impl FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (mut lines, mut made) = (Vec::new(), Vec::new());
    rows.each(|row| {
        write_line(&mut lines, row);
        if lines.len() >= SMALL_MEMBER {
            made.extend(member(black_box(&lines)));
            lines.clear();
        }
    });
    made.extend(member(black_box(&lines)));
    made
}

fn libdeflate(rows: &Rows, level: i32) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::new(level).unwrap());
    let mut room = Vec::new();
    in_members(rows, |lines| {
        room.resize(compressor.gzip_compress_bound(lines.len()), 0);
        let length = compressor.gzip_compress(lines, &mut room).unwrap();
        room[..length].to_vec()
    })
}

fn packed(rows: &Rows) -> Vec<u8> {
    let (mut packer, mut made) = (Packer::default(), Vec::new());
    rows.each(|row| {
        packer.row(row);
        if packer.is_full() {
            made.extend(packer.finish(None));
        }
    });
    made.extend(packer.finish(None));
    made
}

fn gzip(lines: &[u8]) -> Option<usize> {
    let mut gzip = Command::new("gzip").args(["-6", "-n"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let (mut input, mut output) = (gzip.stdin.take().unwrap(), gzip.stdout.take().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(lines).unwrap());
        let mut compressed = Vec::new();
        output.read_to_end(&mut compressed).unwrap();
        gzip.wait().unwrap();
        Some(compressed.len())
    })
}

struct Reading {
    time: Timestamp,
    tag: usize,
    value: f64,
    quality: Quality,
}

/// Readings of machines: each value wanders, in steps of its signal's resolution.
struct Rows {
    tags: Vec<(String, &'static str)>,
    readings: Vec<Reading>,
    plant: Plant,
}

impl Rows {
    fn new(count: usize, plant: Plant) -> Self {
        const SIGNALS: [(&str, &str, f64, f64); 8] = [
            ("temperature_c", "C", 100.0, 80.0),
            ("pressure_bar", "bar", 1000.0, 6.0),
            ("vibration_mm_s", "mm/s", 1000.0, 2.5),
            ("current_a", "A", 100.0, 40.0),
            ("oil_level_pct", "%", 100.0, 70.0),
            ("speed_rpm", "rpm", 100.0, 1480.0),
            ("flow_l_min", "l/min", 1000.0, 12.0),
            ("torque_nm", "Nm", 100.0, 310.0),
        ];
        let tags = plant.tags;
        let mut random = SmallRng::seed_from_u64(1);
        let signal = |tag: usize| SIGNALS[tag % SIGNALS.len()];
        let name = |tag: usize| {
            let machine = tag / SIGNALS.len();
            format!("line{}.press{:02}.{}", machine / 12 + 1, machine % 12 + 1, signal(tag).0)
        };
        let mut steps: Vec<i64> = (0..tags).map(|tag| (signal(tag).2 * signal(tag).3) as i64).collect();
        let begin = Timestamp::parse("2026-02-22T00:00:00.250Z").unwrap().as_micros();
        let readings = (0..count).map(|at| {
            let tag = if plant.is_shuffled { random.gen_range(0..tags) } else { at % tags };
            let changes = !plant.is_mixed || tag % 5 > 0 || random.gen_range(0..200) == 0;
            steps[tag] += if changes { random.gen_range(-25..=25) } else { 0 };
            let micros = begin + (at / tags) as i64 * 1_000_000 + (at % tags) as i64 * plant.jitter_micros;
            let time = Timestamp::from_micros(micros).unwrap();
            let is_uncertain = plant.is_mixed && random.gen_range(0..50) == 0;
            let quality = if is_uncertain { Quality::UNCERTAIN } else { Quality::GOOD };
            Reading { time, tag, value: steps[tag] as f64 / signal(tag).2, quality }
        });
        Self { readings: readings.collect(), tags: (0..tags).map(|tag| (name(tag), signal(tag).1)).collect(), plant }
    }

    fn each(&self, mut row: impl FnMut(&Row<'_>)) {
        const TEXTS: [&str; 5] = ["running", "waiting for material", "door \"A\" open", "stopped", "running"];
        for (seq, Reading { time, tag, value, quality }) in (3_000_000..).zip(&self.readings) {
            let (name, unit) = &self.tags[*tag];
            let is_text = self.plant.is_mixed && tag % 10 == 3;
            row(&Row {
                seq,
                time: *time,
                tag_id: *tag as i64 + 1,
                tag: name,
                value: (!is_text).then_some(*value),
                unit: (!is_text).then_some(unit),
                quality: *quality,
                text: is_text.then(|| TEXTS[*value as usize / 4 % TEXTS.len()]),
            });
        }
    }

    fn lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        self.each(|row| write_line(&mut lines, row));
        lines
    }
}
