//! How fast readings go into their store: `cargo bench -p readings --bench storing`, with `-- --quick` a small one.
//!
//! Against what one would write by hand into the same tables with the same indexes: a plain `COPY` in binary form, a plain
//! prepared `INSERT`, each batch a durable transaction. Pairs in turn; the order changes from round to round.

#![allow(clippy::unwrap_used, reason = "a benchmark that goes wrong says where")]

use std::path::Path;
use std::time::Instant;

use comfy_table::{Table, presets};
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;
use postgres::{Client, NoTls};
use private_postgres::{Options, PrivatePostgres};
use protocol::Timestamp;
use readings::{Batch, Quality, Reading, Store};
use rusqlite::{Connection, params};

const TAGS: u64 = 200;
/// Readings of a batch.
const POSTGRES_BATCH: u64 = 10_000;
const SQLITE_BATCH: u64 = 1_000;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (count, rounds) = if quick { (20_000, 1) } else { (1_000_000, 5) };
    let server = PrivatePostgres::start(&Options::default()).unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut seconds: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        for ours in [round % 2 == 0, round % 2 != 0] {
            let url = server.new_database();
            let mut store = readings::open(&url, folder.path()).unwrap();
            let taken = match ours {
                true => append(store.as_mut(), count, POSTGRES_BATCH),
                false => copy(&url, count),
            };
            seconds[usize::from(!ours)].push(taken);
            let file = format!("{round}-{ours}.db");
            let mut store = readings::open(&format!("sqlite:{file}"), folder.path()).unwrap();
            let taken = match ours {
                true => append(store.as_mut(), count, SQLITE_BATCH),
                false => insert(&folder.path().join(&file), count),
            };
            seconds[2 + usize::from(!ours)].push(taken);
            drop(store);
            std::fs::remove_file(folder.path().join(file)).unwrap();
        }
    }
    print(&seconds, count);
}

fn batch(from: u64, count: u64) -> Vec<Reading> {
    let reading = |at: u64| Reading {
        time: time(at),
        tag: format!("line{}.station{}.temperature_c", at % TAGS % 4, at % TAGS).into(),
        value: Some(value(at)),
        unit: Some("C".into()),
        quality: Quality::GOOD,
        text: None,
    };
    (from..from + count).map(reading).collect()
}

fn time(at: u64) -> Timestamp {
    Timestamp::from_micros(1_771_754_400_000_000 + (at / TAGS) as i64 * 1_000_000).unwrap()
}

fn value(at: u64) -> f64 {
    20.0 + (at * 7919 % 1000) as f64 / 100.0
}

/// The product's way. What is timed is the storing; readings are there already.
fn append(store: &mut dyn Store, count: u64, of_batch: u64) -> f64 {
    let mut taken = 0.0;
    for from in (0..count).step_by(of_batch as usize) {
        let readings = batch(from, of_batch);
        let started = Instant::now();
        let batch = Batch { writer: "bench", from, to: from + of_batch, readings: &readings, gaps: &[] };
        store.append(&batch).unwrap();
        taken += started.elapsed().as_secs_f64();
    }
    assert_eq!(store.head().unwrap().last_seq, count);
    taken
}

/// `COPY` of as many rows in as many transactions, and nothing else.
fn copy(url: &str, count: u64) -> f64 {
    let mut client = Client::connect(url, NoTls).unwrap();
    client.batch_execute("SET synchronous_commit = on").unwrap();
    let types = [Type::INT8, Type::TIMESTAMPTZ, Type::INT4, Type::FLOAT8, Type::INT2, Type::TEXT];
    let mut taken = 0.0;
    for from in (0..count).step_by(POSTGRES_BATCH as usize) {
        let rows: Vec<_> = (from..from + POSTGRES_BATCH)
            .map(|at| {
                let micros = std::time::Duration::from_micros(time(at).as_micros().unsigned_abs());
                (at as i64 + 1, std::time::SystemTime::UNIX_EPOCH + micros, (at % TAGS) as i32 + 1, value(at))
            })
            .collect();
        let started = Instant::now();
        let mut transaction = client.transaction().unwrap();
        let copy = "COPY readings (seq, time, tag, value, quality, text) FROM STDIN (FORMAT binary)";
        let mut writer = BinaryCopyInWriter::new(transaction.copy_in(copy).unwrap(), &types);
        for (seq, time, tag, value) in &rows {
            writer.write(&[seq, time, tag, value, &192_i16, &None::<&str>]).unwrap();
        }
        writer.finish().unwrap();
        transaction.commit().unwrap();
        taken += started.elapsed().as_secs_f64();
    }
    taken
}

/// A prepared `INSERT` of as many rows in as many transactions, and nothing else.
fn insert(file: &Path, count: u64) -> f64 {
    let mut connection = Connection::open(file).unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    let mut taken = 0.0;
    for from in (0..count).step_by(SQLITE_BATCH as usize) {
        let started = Instant::now();
        let transaction = connection.transaction().unwrap();
        let mut insert = transaction.prepare_cached("INSERT INTO readings VALUES (?1, ?2, ?3, ?4, ?5, ?6)").unwrap();
        for at in from..from + SQLITE_BATCH {
            let (seq, tag) = (at as i64 + 1, (at % TAGS) as i64 + 1);
            insert.execute(params![seq, time(at).as_micros(), tag, value(at), 192, None::<&str>]).unwrap();
        }
        drop(insert);
        transaction.commit().unwrap();
        taken += started.elapsed().as_secs_f64();
    }
    taken
}

fn print(seconds: &[Vec<f64>; 4], count: u64) {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["way", "readings a second, median", "from – to", "of the plain way, median", "from – to"]);
    let names = ["Store::append, PostgreSQL", "plain COPY", "Store::append, SQLite", "plain INSERT"];
    for (at, name) in names.iter().enumerate() {
        let rates = seconds[at].iter().map(|seconds| count as f64 / seconds).collect();
        let (rate, rates) = spread(rates, 0);
        let (ratio, ratios) = match at % 2 {
            0 => spread(seconds[at + 1].iter().zip(&seconds[at]).map(|(plain, ours)| plain / ours).collect(), 2),
            _ => (String::new(), String::new()),
        };
        table.add_row([*name, &rate, &rates, &ratio, &ratios]);
    }
    println!("{table}");
}

fn spread(mut values: Vec<f64>, digits: usize) -> (String, String) {
    values.sort_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    (format!("{:.digits$}", values[values.len() / 2]), format!("{least:.digits$} – {most:.digits$}"))
}
