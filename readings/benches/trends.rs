//! How soon a trend is there: `cargo bench -p readings --bench trends`, with `-- --quick` of a day instead of a year.
//!
//! A year of one tag, a reading a second, beside nine others that tell once a minute. Each trend is asked for on a connection
//! of its own, as the portal does it. What one would do without rollups is asked beside it: the smallest and the largest of
//! as many pieces by `GROUP BY` over the readings.

#![allow(clippy::unwrap_used, reason = "a benchmark that goes wrong says where")]

use std::path::Path;
use std::time::Instant;

use comfy_table::{Table, presets};
use private_postgres::{Options, PrivatePostgres};
use protocol::Timestamp;
use readings::{Batch, Quality, Reading, TrendQuery};

const DAY: u64 = 24 * 60 * 60;
const PIECES: u32 = 1_200;
const START: i64 = 1_735_689_600;
const ROUNDS: usize = 5;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let days = if quick { 1 } else { 365 };
    let server = PrivatePostgres::start(&Options::default()).unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "store",
        "readings",
        "while",
        "pieces",
        "milliseconds, median",
        "longest",
        "GROUP BY, milliseconds",
    ]);
    for (name, url) in [("SQLite", "sqlite:year.db".to_owned()), ("PostgreSQL", server.new_database())] {
        let readings = fill(&url, folder.path(), days);
        let whole = days * DAY;
        for (span, seconds) in [("whole", whole), ("a month", 30 * DAY), ("a week", 7 * DAY), ("8 hours", DAY / 3)] {
            if seconds > whole {
                continue;
            }
            let (mut taken, mut pieces) = (Vec::new(), 0);
            for _ in 0..ROUNDS {
                let started = Instant::now();
                pieces = trend(&url, folder.path(), whole - seconds, whole);
                taken.push(started.elapsed().as_secs_f64() * 1e3);
            }
            taken.sort_by(f64::total_cmp);
            let plain = group_by(&url, folder.path(), whole - seconds, whole);
            table.add_row([
                name.to_owned(),
                readings.to_string(),
                span.to_owned(),
                pieces.to_string(),
                format!("{:.1}", taken[ROUNDS / 2]),
                format!("{:.1}", taken[ROUNDS - 1]),
                format!("{plain:.0}"),
            ]);
        }
    }
    println!("{table}");
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros((START + second as i64) * 1_000_000).unwrap()
}

fn fill(url: &str, folder: &Path, days: u64) -> u64 {
    let mut store = readings::open(url, folder).unwrap();
    let names: Vec<std::sync::Arc<str>> = (0..10).map(|tag| format!("press.value{tag}").into()).collect();
    for minute in 0..days * DAY / 60 / 10 {
        let mut batch = Vec::new();
        for second in minute * 600..(minute + 1) * 600 {
            let tags = if second % 60 == 0 { 10 } else { 1 };
            batch.extend(names.iter().take(tags).map(|tag| Reading {
                time: at(second),
                tag: tag.clone(),
                value: Some(20.0 + (second * 7919 % 1000) as f64 / 100.0),
                unit: None,
                quality: Quality::GOOD,
                text: None,
            }));
        }
        store.append(&Batch { writer: "bench", from: minute, to: minute + 1, readings: &batch, gaps: &[] }).unwrap();
    }
    while store.roll_up().unwrap() {}
    store.head().unwrap().last_seq
}

fn trend(url: &str, folder: &Path, from: u64, to: u64) -> usize {
    let mut store = readings::open(url, folder).unwrap();
    let query = TrendQuery { tag: "press.value0", from: at(from), to: at(to), pieces: PIECES };
    store.trend(query).unwrap().unwrap().pieces.len()
}

/// Milliseconds.
fn group_by(url: &str, folder: &Path, from: u64, to: u64) -> f64 {
    let (from, to) = (START + from as i64, START + to as i64);
    let length = (to - from) / i64::from(PIECES).max(1);
    let started = Instant::now();
    match url.strip_prefix("sqlite:") {
        Some(file) => {
            let connection = rusqlite::Connection::open(folder.join(file)).unwrap();
            let query = "SELECT time / ?3, min(value), max(value) FROM readings
                         WHERE tag = (SELECT id FROM tags WHERE name = 'press.value0') AND time >= ?1 AND time < ?2 GROUP BY 1";
            let mut statement = connection.prepare(query).unwrap();
            let rows =
                statement.query_map([from * 1_000_000, to * 1_000_000, length * 1_000_000], |row| row.get::<_, i64>(0));
            assert!(rows.unwrap().count() > 0);
        }
        None => {
            let mut client = postgres::Client::connect(url, postgres::NoTls).unwrap();
            let query = format!(
                "SELECT floor(extract(epoch FROM time) / {length}), min(value), max(value) FROM readings
                 WHERE tag = (SELECT id FROM tags WHERE name = 'press.value0')
                   AND time >= to_timestamp({from}) AND time < to_timestamp({to}) GROUP BY 1"
            );
            assert!(!client.query(&query, &[]).unwrap().is_empty());
        }
    }
    started.elapsed().as_secs_f64() * 1e3
}
