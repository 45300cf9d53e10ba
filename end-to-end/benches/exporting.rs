//! `cargo bench --bench exporting`: how long HQ waits for an export, paired in the same run with what anybody would run
//! instead. `-- --quick` is a small one, which shows that it works and no more.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a measurement that goes wrong says where")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use comfy_table::{Table, presets};
use end_to_end::columns;
use end_to_end::headquarters::Headquarters;
use end_to_end::plant::Plant;
use end_to_end::programs;
use private_postgres::{Options, PrivatePostgres};
use protocol::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use readings::{Batch, Quality, Reading, Store};

const SQLITE: &str = "sqlite:data/plant.db";
const TAGS: usize = 200;
const BATCH: usize = 10_000;

/// How much of it there is.
struct Scale {
    pairs: usize,
    readings: usize,
}

const FULL: Scale = Scale { pairs: 5, readings: 1_000_000 };
const QUICK: Scale = Scale { pairs: 1, readings: 20_000 };

/// One way of getting an export: seconds, and bytes of the file.
type Measured = Vec<(f64, u64)>;

fn main() {
    let scale = if std::env::args().any(|argument| argument == "--quick") { QUICK } else { FULL };
    programs::build().unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir_in(programs::folder()).unwrap();
    let server = PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let keys = Headquarters::new(&folder.path().join("keys"), folder.path());
    let url = server.new_database();
    let plants = [("SQLite", SQLITE), ("PostgreSQL", url.as_str())].map(|(name, database)| {
        let mut plant = Plant::init(&folder.path().join(name), &keys, database, 1, None);
        fs::write(plant.root.join("config/sources.toml"), "").unwrap();
        let mut store = readings::open(database, &plant.root).unwrap_or_else(|error| panic!("{error}"));
        fill(store.as_mut(), scale.readings);
        drop(store);
        plant.start_and_wait();
        (name, plant, Measured::new())
    });
    // Readings as others keep them, tag and unit in each row: row_to_json has no table to join.
    let name = url.rsplit('/').next().unwrap();
    server.sql(
        name,
        "CREATE TABLE flat AS SELECT r.seq, r.time, t.name AS tag, r.value, t.unit, r.quality FROM readings r
         JOIN tags t ON t.id = r.tag ORDER BY r.seq; ANALYZE",
    );
    let mut plants = plants;
    let mut by_hand = Measured::new();
    for _ in 0..scale.pairs {
        by_hand.push(by_psql(&url, folder.path()));
        for (name, plant, measured) in &mut plants {
            measured.push(by_sync_client(plant, &keys, &folder.path().join(format!("{name}-data")), scale.readings));
        }
    }
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["what", "median (s)", "from – to (s)", "MB", "times as fast, median", "from – to"]);
    add(&mut table, "psql row_to_json | gzip -6", &by_hand, None);
    for (name, _, measured) in &plants {
        add(&mut table, &format!("sync_client, {name}"), measured, Some(&by_hand));
    }
    println!("{table}");
}

/// 200 tags at a cadence of a second; values walk at random.
fn fill(store: &mut dyn Store, readings: usize) {
    let mut random = SmallRng::seed_from_u64(1);
    let mut values: Vec<f64> = (0..TAGS).map(|_| random.gen_range(0.0..100.0)).collect();
    let start = Timestamp::parse("2026-02-22T00:00:00Z").unwrap().as_micros();
    let tags: Vec<String> =
        (0..TAGS).map(|tag| format!("line1.press{:02}.temperature{:02}_c", tag / 20, tag % 20)).collect();
    for batch in 0..readings / BATCH {
        let of_batch = (batch * BATCH..(batch + 1) * BATCH).map(|number| {
            let tag = number % TAGS;
            values[tag] += random.gen_range(-0.5..0.5);
            Reading {
                time: Timestamp::from_micros(start + (number / TAGS) as i64 * 1_000_000).unwrap(),
                tag: tags[tag].as_str().into(),
                value: Some((values[tag] * 1000.0).round() / 1000.0),
                unit: Some("C".into()),
                quality: Quality::GOOD,
                text: None,
            }
        });
        let of_batch: Vec<Reading> = of_batch.collect();
        let (from, to) = (batch as u64, batch as u64 + 1);
        let appended = store.append(&Batch { writer: "import", from, to, readings: &of_batch, gaps: &[] });
        appended.unwrap_or_else(|error| panic!("{error}"));
    }
}

fn by_psql(url: &str, folder: &Path) -> (f64, u64) {
    let out = folder.join("psql.gz");
    let copy = "COPY (SELECT row_to_json(r) FROM flat r ORDER BY seq) TO STDOUT";
    let started = Instant::now();
    let status = Command::new("sh")
        .args(["-c", "psql -X -q -d \"$0\" -c \"$1\" | gzip -6 > \"$2\"", url, copy])
        .arg(&out)
        .status()
        .unwrap();
    assert!(status.success());
    (started.elapsed().as_secs_f64(), fs::metadata(out).unwrap().len())
}

/// A whole pull over HTTPS, checked and stored, of an HQ that has nothing yet.
fn by_sync_client(plant: &Plant, keys: &Headquarters, data: &Path, readings: usize) -> (f64, u64) {
    let _ = fs::remove_dir_all(data);
    let headquarters = Headquarters { keys: keys.keys.clone(), data: data.to_owned() };
    let port = plant.agent_port();
    let started = Instant::now();
    let said = headquarters.pull(port);
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(said["record_count"], readings, "{said}");
    (seconds, fs::metadata(&headquarters.archives()[0]).unwrap().len())
}

fn add(table: &mut Table, what: &str, measured: &Measured, against: Option<&Measured>) {
    let seconds: Vec<f64> = measured.iter().map(|(seconds, _)| *seconds).collect();
    let ratios = against.into_iter().flatten().zip(&seconds).map(|((theirs, _), ours)| theirs / ours);
    let [(median, spread), (ratio, ratios)] = [seconds.clone(), ratios.collect()].map(columns);
    let megabytes = format!("{:.2}", measured[0].1 as f64 / 1e6);
    table.add_row([what, &median, &spread, &megabytes, &ratio, &ratios]);
}
