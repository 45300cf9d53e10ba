//! `cargo bench --bench updating`: how long an update takes, each figure paired in the same run with what
//! anybody would do by hand. `-- --quick` is a small one, which shows that it works and no more.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a measurement that goes wrong says where")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use end_to_end::crash_points::{Bench, Run};
use end_to_end::headquarters::Headquarters;
use end_to_end::plant::Plant;
use end_to_end::programs::{self, program, run};
use end_to_end::release::Release;
use end_to_end::{columns, wait_for};
use protocol::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use readings::{Batch, Quality, Reading, migrate};
use rustix::process::test_kill_process;

const SQLITE: &str = "sqlite:data/plant.db";
const STEP_WITHIN: Duration = Duration::from_secs(120);

/// How much of it there is.
struct Scale {
    pairs: usize,
    big_file_bytes: usize,
    small_files: usize,
    text_bytes: usize,
    database_bytes: u64,
}

const FULL: Scale =
    Scale { pairs: 5, big_file_bytes: 160 << 20, small_files: 1000, text_bytes: 100 << 20, database_bytes: 500 << 20 };
const QUICK: Scale =
    Scale { pairs: 1, big_file_bytes: 2 << 20, small_files: 20, text_bytes: 1 << 20, database_bytes: 4 << 20 };

fn main() {
    let scale = if std::env::args().any(|argument| argument == "--quick") { QUICK } else { FULL };
    programs::build().unwrap_or_else(|error| panic!("{error}"));
    // Beside the executables: a temporary folder may be kept in memory, where a flush costs nothing.
    let folder = tempfile::tempdir_in(programs::folder()).unwrap();
    let headquarters = Headquarters::new(&folder.path().join("keys"), &folder.path().join("data_storage"));
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["what", "median (s)", "from – to (s)", "ratio, median", "from – to"]);
    apply(&scale, folder.path(), &headquarters, &mut table);
    copy_database(&scale, folder.path(), &mut table);
    children_down(&scale, folder.path(), &headquarters, &mut table);
    println!("{table}");
}

/// A package applied, against the same package unpacked and hashed.
fn apply(scale: &Scale, folder: &Path, headquarters: &Headquarters, table: &mut Table) {
    let package = publish(scale, folder, headquarters);
    let megabytes = fs::metadata(&package).unwrap().len() >> 20;
    let (mut applied, mut by_hand, mut by_hand_flushed) = (Vec::new(), Vec::new(), Vec::new());
    let mut steps: Vec<(String, Vec<f64>)> = Vec::new();
    for pair in 0..scale.pairs {
        // Whoever is first finds the other one's traces in the caches.
        for first in [pair % 2 == 0, pair % 2 != 0] {
            if first {
                let (seconds, each) = apply_once(folder, headquarters, &package);
                applied.push(seconds);
                for (at, (step, seconds)) in each.into_iter().enumerate() {
                    if steps.len() <= at {
                        steps.push((step, Vec::new()));
                    }
                    steps[at].1.push(seconds);
                }
            } else {
                let (unpacked_and_hashed, flushed) = unpack_once(folder, &package);
                by_hand.push(unpacked_and_hashed);
                by_hand_flushed.push(flushed);
            }
        }
    }
    add(table, &format!("apply of a package of {megabytes} MB, without the backup"), &applied, None);
    for (step, seconds) in &steps {
        add(table, &format!("– of it {step}"), seconds, None);
    }
    add(table, "unzip + sha256sum of it", &by_hand, Some(&applied));
    add(table, "unzip + sha256sum + sync -f of it", &by_hand_flushed, Some(&applied));
}

/// One big file that does not pack, many small ones, and text that packs well.
fn publish(scale: &Scale, folder: &Path, headquarters: &Headquarters) -> PathBuf {
    let (work, out) = (folder.join("package"), folder.join("packages"));
    fs::create_dir_all(work.join("assets/small")).unwrap();
    let mut random = SmallRng::seed_from_u64(1);
    let mut noise = |bytes: usize| {
        let mut noise = vec![0; bytes];
        random.fill_bytes(&mut noise);
        noise
    };
    fs::write(work.join("assets/big.bin"), noise(scale.big_file_bytes)).unwrap();
    for number in 0..scale.small_files {
        fs::write(work.join(format!("assets/small/{number}.bin")), noise(20 << 10)).unwrap();
    }
    let (mut text, mut random) = (String::new(), SmallRng::seed_from_u64(2));
    while text.len() < scale.text_bytes {
        let tag = random.gen_range(0..200);
        writeln!(text, "{{\"tag\":\"line.station{tag:03}.temperature\",\"value\":{}}}", random.r#gen::<f32>()).unwrap();
    }
    fs::write(work.join("assets/text.jsonl"), text).unwrap();
    let mut publish = program("publish");
    publish.args(["--version", "1.1.0", "--files", "assets", "--json", "--base"]).arg(&work);
    publish.arg("--key").arg(headquarters.keys.join("update_private.pem")).arg("--out").arg(&out);
    run(&mut publish).good();
    out.join("update_v1.1.0.zip")
}

/// Seconds without the backup, and those of each step. A step ends when the next one is noted in `progress.jsonl`, which
/// is looked at a thousand times a second.
fn apply_once(folder: &Path, headquarters: &Headquarters, package: &Path) -> (f64, Vec<(String, f64)>) {
    let place = tempfile::tempdir_in(folder).unwrap();
    let old = place.path().join("programs");
    fs::create_dir_all(&old).unwrap();
    for name in updater::patch::PROGRAMS {
        fs::copy(programs::folder().join(name), old.join(name)).unwrap();
    }
    let bench = Bench::with_programs(place.path(), headquarters, SQLITE, &old);
    bench.take_in(package);
    bench.approve();
    flush(folder);
    let mut command = program("watchdog");
    command.args(bench.arguments(Run::Apply)).stdin(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", updater::apply::SPOOLING).unwrap();
    let mut begun: Vec<(String, f64)> = Vec::new();
    let status = loop {
        let ended = child.try_wait().unwrap();
        for step in updater::progress::read(&bench.root).into_iter().skip(begun.len()) {
            begun.push((step.step, started.elapsed().as_secs_f64()));
        }
        match ended {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let whole = started.elapsed().as_secs_f64();
    assert!(status.success(), "the package is applied");
    let ends = begun.iter().skip(1).map(|(_, begun)| *begun).chain([whole]);
    // What comes before the first step is part of it.
    let starts = [0.0].into_iter().chain(begun.iter().skip(1).map(|(_, begun)| *begun));
    let mut steps: Vec<(String, f64)> = Vec::new();
    for (((step, _), start), end) in begun.iter().zip(starts).zip(ends) {
        steps.push((step.clone(), end - start));
    }
    let backup = steps.iter().find(|(step, _)| step == "backup").unwrap().1;
    (whole - backup, steps)
}

/// Seconds until all is unpacked and hashed, and until it is on the disk as well.
fn unpack_once(folder: &Path, package: &Path) -> (f64, f64) {
    let place = tempfile::tempdir_in(folder).unwrap();
    flush(folder);
    let started = Instant::now();
    run(Command::new("unzip").arg("-q").arg(package).arg("-d").arg(place.path())).good();
    let script = "find \"$0\" -type f -print0 | xargs -0 sha256sum";
    run(Command::new("sh").args(["-c", script]).arg(place.path())).good();
    let hashed = started.elapsed().as_secs_f64();
    flush(place.path());
    (hashed, started.elapsed().as_secs_f64())
}

fn flush(folder: &Path) {
    run(Command::new("sync").arg("-f").arg(folder)).good();
}

/// SQLite's part of a migration, against `cp` and `sync` of the same file.
fn copy_database(scale: &Scale, folder: &Path, table: &mut Table) {
    let place = tempfile::tempdir_in(folder).unwrap();
    let [from, to] = ["plant.db", "copy.db"].map(|name| place.path().join(name));
    fill(&format!("sqlite:{}", from.display()), &from, scale.database_bytes);
    let megabytes = fs::metadata(&from).unwrap().len() >> 20;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // Half a second each, and a disk is moody: more of them.
    for pair in 0..3 * scale.pairs {
        for first in [pair % 2 == 0, pair % 2 != 0] {
            flush(folder);
            let started = Instant::now();
            if first {
                migrate::copy_sqlite(&from, &to).unwrap();
                ours.push(started.elapsed().as_secs_f64());
            } else {
                run(Command::new("cp").arg(&from).arg(&to)).good();
                run(Command::new("sync").arg(&to)).good();
                theirs.push(started.elapsed().as_secs_f64());
            }
            run(Command::new("cmp").args([&from, &to])).good();
            fs::remove_file(&to).unwrap();
        }
    }
    add(table, &format!("copy of a SQLite database of {megabytes} MB"), &ours, None);
    add(table, "cp + sync of it", &theirs, Some(&ours));
}

fn fill(url: &str, file: &Path, bytes: u64) {
    let mut store = readings::open(url, Path::new("/")).unwrap();
    let reading = |number: u64| Reading {
        time: Timestamp::from_micros(i64::try_from(number).unwrap() * 1000).unwrap(),
        tag: format!("tag{}", number % 200).into(),
        value: None,
        unit: None,
        quality: Quality::GOOD,
        text: Some(format!("{number:1000}")),
    };
    let mut from = 0;
    while fs::metadata(file).map_or(0, |metadata| metadata.len()) < bytes {
        let readings: Vec<Reading> = (from..from + 1000).map(reading).collect();
        store.append(&Batch { writer: "collector", from, to: from + 1000, readings: &readings, gaps: &[] }).unwrap();
        from += 1000;
    }
}

/// From the first program's end to all of the new version being ready.
fn children_down(scale: &Scale, folder: &Path, headquarters: &Headquarters, table: &mut Table) {
    let mut plant = Plant::init(&folder.join("plant"), headquarters, SQLITE, 10, None);
    plant.set("UPDATE_TRIAL_SECONDS", "1");
    plant.start_and_wait();
    plant.wait_for_readings(20);
    let mut down = Vec::new();
    for number in 0..scale.pairs as u64 {
        let version = format!("0.{}.0", number + 2);
        let release = Release::new(&version, folder).onto(&plant).file("assets/new.txt", &version);
        headquarters.deliver(plant.agent_port(), &release.publish(headquarters)).good();
        let children = ["portal", "agent", "collector"].map(|child| plant.pid(child));
        plant.approve_update();
        while children.iter().all(|child| test_kill_process(*child).is_ok()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let ended = Instant::now();
        wait_for("the new version", STEP_WITHIN, || {
            let status = plant.status()?;
            let ready = status.children.iter().all(|child| child.state.word() == "running");
            (status.version == version && ready).then_some(())
        });
        down.push(ended.elapsed().as_secs_f64());
        let line = plant.wait_for_attempt(number + 1, STEP_WITHIN);
        assert_eq!(line["status"], "ok", "{line}");
    }
    plant.stop();
    add(table, "programs down in an update", &down, None);
}

/// A line of the table; `ours` over these, pair by pair, as the ratio.
fn add(table: &mut Table, what: &str, seconds: &[f64], ours: Option<&[f64]>) {
    let ratios: Vec<f64> =
        ours.map(|ours| ours.iter().zip(seconds).map(|(ours, theirs)| ours / theirs).collect()).unwrap_or_default();
    let [(median, spread), (ratio, ratios)] = [seconds.to_vec(), ratios].map(columns);
    table.add_row([what, &median, &spread, &ratio, &ratios]);
}
