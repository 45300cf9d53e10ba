//! How fast readings come out of their store: `cargo bench -p readings --bench reading`, with `-- --quick` a small one.
//!
//! Every round runs every way once, so that a slow moment of the machine meets all of them; the ratio is the median of
//! the rounds' own ratios to `psql`.

#![allow(clippy::unwrap_used, reason = "a benchmark that goes wrong says where")]

use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use private_postgres::{Options, PrivatePostgres};
use protocol::Timestamp;
use readings::{Batch, Quality, Reading, Span, Store};

const TAGS: u64 = 200;
/// Readings of one statement: those of a megabyte of an export, and of four.
const PAGE: u64 = 10_000;
const LARGE_PAGE: u64 = 40_000;
const BATCH: u64 = 10_000;

/// Reads all and says how many readings that were.
type Run = Box<dyn FnMut() -> u64>;

struct Way {
    name: &'static str,
    run: Run,
    times: Vec<Duration>,
    /// What this process computed for it; waiting for the database is no part of that.
    computing: Vec<f64>,
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (count, rounds) = if quick { (20_000, 2) } else { (1_000_000, 9) };
    let server: &'static PrivatePostgres = Box::leak(Box::new(PrivatePostgres::start(&Options::default()).unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let url = server.new_database();
    fill(readings::open(&url, folder.path()).unwrap().as_mut(), count);
    fill(readings::open("sqlite:plant.db", folder.path()).unwrap().as_mut(), count);
    let database = url.rsplit('/').next().unwrap().to_owned();
    server.sql(&database, "VACUUM ANALYZE");
    let mut ways = ways(server, &url, &database, folder.path(), count);
    for _ in 0..rounds {
        for way in &mut ways {
            let (started, computed) = (Instant::now(), computing());
            assert_eq!((way.run)(), count, "{}", way.name);
            way.times.push(started.elapsed());
            way.computing.push(computing() - computed);
        }
    }
    print(&ways, count);
    drop(ways);
    // Leaked for the ways' sake; its keeper ends with this process.
}

fn ways(server: &'static PrivatePostgres, url: &str, database: &str, folder: &Path, count: u64) -> Vec<Way> {
    let query = format!(
        "COPY (SELECT seq, time, tag, value, quality, text FROM readings WHERE seq BETWEEN 1 AND {count} ORDER BY seq)
         TO STDOUT (FORMAT binary)"
    );
    let mut psql = server.psql(database);
    psql.args(["-c", &query]).stdout(Stdio::null());
    let mut client = Client::connect(url, NoTls).unwrap();
    let read_pages = |mut store: Box<dyn Store>, page| move || read(store.as_mut(), count, page);
    let open = |url: &str| readings::open(url, folder).unwrap();
    let socket = server.socket_url(database);
    let ways: [(&str, Run); 7] = [
        ("psql COPY BINARY > /dev/null", Box::new(move || if psql.status().unwrap().success() { count } else { 0 })),
        ("postgres, copy_out, rows parsed", Box::new(move || copy_out(&mut client, &query))),
        ("Store::read, PostgreSQL, one statement", Box::new(read_pages(open(url), count))),
        ("Store::read, PostgreSQL, 40,000 a page", Box::new(read_pages(open(url), LARGE_PAGE))),
        ("Store::read, PostgreSQL, 10,000 a page", Box::new(read_pages(open(url), PAGE))),
        ("the same by its Unix socket", Box::new(read_pages(open(&socket), PAGE))),
        ("Store::read, SQLite, 10,000 a page", Box::new(read_pages(open("sqlite:plant.db"), PAGE))),
    ];
    ways.into_iter().map(|(name, run)| Way { name, run, times: Vec::new(), computing: Vec::new() }).collect()
}

fn fill(store: &mut dyn Store, count: u64) {
    let tag = |at| (format!("line{}.station{}.temperature_c", at % 4, at).into(), Some("C".into()));
    let tags: Vec<(Arc<str>, Option<Arc<str>>)> = (0..TAGS).map(tag).collect();
    for from in (0..count).step_by(BATCH as usize) {
        let reading = |at: u64| Reading {
            time: Timestamp::from_micros(1_771_754_400_000_000 + (at / TAGS) as i64 * 1_000_000).unwrap(),
            tag: tags[(at % TAGS) as usize].0.clone(),
            value: Some(20.0 + (at * 7919 % 1000) as f64 / 100.0),
            unit: tags[(at % TAGS) as usize].1.clone(),
            quality: Quality::GOOD,
            text: None,
        };
        let readings: Vec<_> = (from..count.min(from + BATCH)).map(reading).collect();
        store.append(&Batch { writer: "bench", from, to: from + BATCH, readings: &readings, gaps: &[] }).unwrap();
    }
}

fn read(store: &mut dyn Store, count: u64, page: u64) -> u64 {
    let mut rows = 0;
    for from in (1..=count).step_by(page as usize) {
        let span = Span::all(from, count.min(from + page - 1));
        store
            .read(span, &mut |row| {
                black_box(row);
                rows += 1;
            })
            .unwrap();
    }
    rows
}

/// The reference: what the library offers, read field by field.
fn copy_out(client: &mut Client, query: &str) -> u64 {
    let mut stream = client.copy_out(query).unwrap();
    stream.read_exact(&mut [0; 19]).unwrap();
    let (mut rows, mut columns, mut length, mut field) = (0, [0; 2], [0; 4], [0; 8]);
    loop {
        stream.read_exact(&mut columns).unwrap();
        if i16::from_be_bytes(columns) == -1 {
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
            return rows;
        }
        for _ in 0..i16::from_be_bytes(columns) {
            stream.read_exact(&mut length).unwrap();
            if let Ok(length) = usize::try_from(i32::from_be_bytes(length)) {
                stream.read_exact(&mut field[..length]).unwrap();
                black_box(&field);
            }
        }
        rows += 1;
    }
}

fn print(ways: &[Way], count: u64) {
    println!("\n{count} readings of {TAGS} tags\n");
    println!(
        "| way | seconds: median (least to most) | readings/s | ratio to psql (least to most) | seconds computing here |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for way in ways {
        let seconds = sorted(way.times.iter().map(Duration::as_secs_f64));
        let ratios =
            sorted(ways[0].times.iter().zip(&way.times).map(|(psql, own)| psql.as_secs_f64() / own.as_secs_f64()));
        println!(
            "| {} | {:.3} ({:.3} to {:.3}) | {:.0} | {:.2} ({:.2} to {:.2}) | {:.3} |",
            way.name,
            median(&seconds),
            seconds[0],
            seconds[seconds.len() - 1],
            count as f64 / median(&seconds),
            median(&ratios),
            ratios[0],
            ratios[ratios.len() - 1],
            median(&sorted(way.computing.iter().copied())),
        );
    }
}

/// Processor time of the main thread, on which everything here runs; not a number where Linux does not tell.
fn computing() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_unstable_by(f64::total_cmp);
    numbers
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
