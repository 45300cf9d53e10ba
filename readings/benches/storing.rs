//! How fast readings go into their store: `cargo bench -p readings --bench storing`, with `-- --quick` a small one.
//!
//! Against what one would write by hand into the same tables with the same indexes: a plain `COPY` in binary form, a plain
//! prepared `INSERT`, each batch a durable transaction, and at the end the same rollups, which are there already, each row
//! once. Pairs in turn; the order changes from round to round.

#![allow(clippy::unwrap_used, reason = "a benchmark that goes wrong says where")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use comfy_table::{Table, presets};
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;
use postgres::{Client, NoTls};
use private_postgres::{Options, PrivatePostgres};
use protocol::Timestamp;
use readings::{Batch, Quality, Reading, Rollup, Store, Values};
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
    let started = Instant::now();
    while store.roll_up().unwrap() {}
    taken += started.elapsed().as_secs_f64();
    assert_eq!(store.head().unwrap().last_seq, count);
    taken
}

/// Of all readings, by start in microseconds and tag.
fn rollups(count: u64, length: i64) -> BTreeMap<(i64, i64), Rollup> {
    let mut rollups: BTreeMap<_, Rollup> = BTreeMap::new();
    for at in 0..count {
        let key = (time(at).as_micros() / length * length, (at % TAGS) as i64 + 1);
        rollups.entry(key).or_default().add(&Rollup::of(time(at), Some(value(at)), Quality::GOOD));
    }
    rollups
}

const ROLLUPS: [(&str, i64); 2] = [("rollups_minute", 60_000_000), ("rollups_hour", 3_600_000_000)];

fn system_time(micros: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs())
}

/// `COPY` of as many rows in as many transactions, and nothing else.
fn copy(url: &str, count: u64) -> f64 {
    let mut client = Client::connect(url, NoTls).unwrap();
    client.batch_execute("SET synchronous_commit = on").unwrap();
    let types = [Type::INT8, Type::TIMESTAMPTZ, Type::INT4, Type::FLOAT8, Type::INT2, Type::TEXT];
    let mut taken = 0.0;
    for from in (0..count).step_by(POSTGRES_BATCH as usize) {
        let rows: Vec<_> = (from..from + POSTGRES_BATCH)
            .map(|at| (at as i64 + 1, system_time(time(at).as_micros()), (at % TAGS) as i32 + 1, value(at)))
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
    let types = [Type::TIMESTAMPTZ, Type::INT4, Type::INT8, Type::INT8].into_iter().chain([
        Type::FLOAT8,
        Type::FLOAT8,
        Type::TIMESTAMPTZ,
        Type::FLOAT8,
        Type::TIMESTAMPTZ,
        Type::FLOAT8,
    ]);
    let types: Vec<Type> = types.collect();
    for (table, length) in ROLLUPS {
        let rows = rollups(count, length);
        let started = Instant::now();
        let mut transaction = client.transaction().unwrap();
        let copy = format!("COPY {table} FROM STDIN (FORMAT binary)");
        let mut writer = BinaryCopyInWriter::new(transaction.copy_in(&copy).unwrap(), &types);
        for ((start, tag), rollup) in &rows {
            let values = rollup.values.unwrap();
            let (first, last) = (system_time(values.first_time.as_micros()), system_time(values.last_time.as_micros()));
            let (start, tag, readings) = (system_time(*start), *tag as i32, rollup.readings as i64);
            let Values { minimum, maximum, first: first_value, last: last_value, .. } = values;
            writer
                .write(&[&start, &tag, &readings, &0_i64, &minimum, &maximum, &first, &first_value, &last, &last_value])
                .unwrap();
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
    for (table, length) in ROLLUPS {
        let rows = rollups(count, length);
        let started = Instant::now();
        let transaction = connection.transaction().unwrap();
        let statement = format!("INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
        let mut insert = transaction.prepare(&statement).unwrap();
        for ((start, tag), rollup) in &rows {
            let Values { minimum, maximum, first_time, first, last_time, last } = rollup.values.unwrap();
            let (first_time, last_time) = (first_time.as_micros(), last_time.as_micros());
            let readings = rollup.readings as i64;
            insert
                .execute(params![start, tag, readings, 0, minimum, maximum, first_time, first, last_time, last])
                .unwrap();
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
