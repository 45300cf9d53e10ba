//! `cargo bench --bench exporting`: how long HQ waits for an export, paired in the same run with what anybody would run
//! instead, how soon the first byte comes, and what memory the agent takes. `-- --quick` is a small one, which shows that
//! it works and no more; `-- --large` goes up to fifty million readings.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a measurement that goes wrong says where")]

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use end_to_end::headquarters::Headquarters;
use end_to_end::plant::Plant;
use end_to_end::programs::{self, program, run};
use end_to_end::proxy::CuttingProxy;
use end_to_end::{columns, kilobytes, python, wait_for};
use private_postgres::{Options, PrivatePostgres};
use protocol::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use readings::{Batch, Quality, Reading, Store};
use rustix::process::Pid;

const SQLITE: &str = "sqlite:data/plant.db";
const TAGS: usize = 200;
const BATCH: usize = 10_000;

/// How much of it there is.
struct Scale {
    pairs: usize,
    readings: usize,
    /// Sizes of the store at which the first byte and the memory are looked at, rising.
    sizes: &'static [usize],
    at_once: usize,
    /// Of the fleet, and readings of each.
    plants: usize,
    python: bool,
}

const FULL: Scale =
    Scale { pairs: 5, readings: 1_000_000, sizes: &[1_000_000, 5_000_000], at_once: 16, plants: 100, python: true };
const LARGE: Scale = Scale { sizes: &[1_000_000, 5_000_000, 50_000_000], ..FULL };
const QUICK: Scale = Scale { pairs: 1, readings: 20_000, sizes: &[20_000], at_once: 4, plants: 8, python: false };

/// Readings of a store that is pulled by many at once.
const MOST_AT_ONCE: usize = 5_000_000;
/// What an incremental pull brings.
const INCREMENT: u64 = 10_000;

/// One way of getting an export: seconds, and bytes of the file.
type Measured = Vec<(f64, u64)>;

struct Subject {
    name: &'static str,
    plant: Plant,
    database: String,
    filled: usize,
    measured: Measured,
}

fn main() {
    let has = |wish: &str| std::env::args().any(|argument| argument == wish);
    let scale = if has("--quick") { QUICK } else { FULL };
    let scale = if has("--large") { LARGE } else { scale };
    programs::build().unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir_in(programs::folder()).unwrap();
    let server = PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let keys = Headquarters::new(&folder.path().join("keys"), folder.path());
    let url = server.new_database();
    let mut subjects = [("SQLite", SQLITE), ("PostgreSQL", url.as_str())].map(|(name, database)| {
        let plant = Plant::init(&folder.path().join(name), &keys, database, 1, None);
        fs::write(plant.root.join("config/sources.toml"), "").unwrap();
        let database = database.to_owned();
        Subject { name, plant, database, filled: 0, measured: Measured::new() }
    });
    for subject in &mut subjects {
        subject.fill(scale.readings);
        subject.plant.start_and_wait();
    }
    // Readings as others keep them, tag and unit in each row: row_to_json has no table to join.
    let name = url.rsplit('/').next().unwrap();
    server.sql(
        name,
        "CREATE TABLE flat AS SELECT r.seq, r.time, t.name AS tag, r.value, t.unit, r.quality FROM readings r
         JOIN tags t ON t.id = r.tag ORDER BY r.seq; ANALYZE",
    );
    let python = if scale.python { Python::start(&url, folder.path()) } else { None };
    let (mut by_hand, mut by_python) = (Measured::new(), Measured::new());
    for _ in 0..scale.pairs {
        by_hand.push(by_psql(&url, folder.path()));
        for subject in &mut subjects {
            let data = folder.path().join(format!("{}-data", subject.name));
            subject.measured.push(by_sync_client(&subject.plant, &keys, &data, scale.readings));
        }
        by_python.extend(python.as_ref().map(|python| python.export(folder.path())));
    }
    drop(python);
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["what", "median (s)", "from – to (s)", "MB", "times as fast, median", "from – to"]);
    add(&mut table, "psql row_to_json \\| gzip -6", &by_hand, None);
    for subject in &subjects {
        add(&mut table, &format!("sync_client, {}", subject.name), &subject.measured, Some(&by_hand));
    }
    if !by_python.is_empty() {
        add(&mut table, "FastAPI + asyncpg, buffered", &by_python, Some(&by_hand));
    }
    println!("{table}\n");

    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "store",
        "readings",
        "first byte (ms)",
        "10,000 new, whole (ms)",
        "agent idle (MB)",
        "peak, one export (MB)",
        "peak, all at once (MB)",
        "at once / one",
    ]);
    for size in scale.sizes {
        for subject in &mut subjects {
            subject.plant.stop();
            subject.fill(*size);
            // So that none profits from what another measurement has left.
            subject.plant.start_and_wait();
            table.add_row(subject.look(*size, &scale, &keys, folder.path()));
        }
    }
    println!("{table}\n");
    fleet(&scale, &subjects[0], &keys, folder.path());
}

/// So long a slow plant takes for each piece that it sends.
const SLOW: Duration = Duration::from_millis(100);

/// Plants behind slow lines: one after the other, and sixteen at a time. One plant stands for all of them; what is measured
/// is how they are waited for.
fn fleet(scale: &Scale, subject: &Subject, keys: &Headquarters, folder: &Path) {
    let proxy = CuttingProxy::start(subject.plant.agent_port());
    proxy.slow_down(SLOW);
    let since = "2099-01-01T00:00:00Z";
    let mut text = String::new();
    for number in 0..scale.plants {
        let port = proxy.port();
        write!(text, "[[plant]]\nclient_id = \"plant-{number}\"\nhost = \"127.0.0.1\"\nport = {port}\n").unwrap();
    }
    let file = folder.join("fleet.toml");
    fs::write(&file, text).unwrap();
    let [one, many] = [1, 16].map(|parallel| {
        let data = folder.join(format!("fleet-{parallel}"));
        let started = Instant::now();
        let mut client = program("sync_client");
        client.args(["--quiet", "--since", since, "--parallel", &parallel.to_string(), "--fleet"]).arg(&file);
        run(client.arg("--key").arg(keys.keys.join("private.pem")).arg("--data-dir").arg(data)).good();
        started.elapsed().as_secs_f64()
    });
    let ratio = one / many;
    println!(
        "a fleet of {} plants that take {} ms for each piece: {one:.1} s one after the other, {many:.1} s with \
         --parallel 16: {ratio:.1} times as fast",
        scale.plants,
        SLOW.as_millis()
    );
}

impl Subject {
    /// Until it holds so many readings.
    fn fill(&mut self, readings: usize) {
        let mut store = readings::open(&self.database, &self.plant.root).unwrap_or_else(|error| panic!("{error}"));
        fill(store.as_mut(), self.filled, readings);
        self.filled = self.filled.max(readings);
    }

    /// A row of the second table.
    fn look(&self, readings: usize, scale: &Scale, keys: &Headquarters, folder: &Path) -> Vec<String> {
        let agent = self.plant.pid("agent");
        let idle = megabytes(agent, "VmRSS:");
        let rounds = 2 * scale.pairs + 1;
        let all = self.first_bytes(keys, rounds, "since=1970-01-01T00:00:00Z");
        assert_eq!(all[0].count, readings as u64);
        let (epoch, rest) = all[0].cursor.strip_prefix("1.").unwrap().split_once('.').unwrap();
        let last: u64 = rest.split('.').next().unwrap().parse().unwrap();
        let new = self.first_bytes(keys, rounds, &format!("cursor=1.{epoch}.{}.-", last - INCREMENT.min(last)));
        assert!(new.iter().all(|new| new.count == INCREMENT.min(last)));
        let milliseconds = |values: Vec<f64>| {
            let (median, spread) = columns(values.iter().map(|seconds| seconds * 1000.0).collect());
            format!("{median} ({spread})")
        };
        fs::write(format!("/proc/{}/clear_refs", agent.as_raw_nonzero()), "5").unwrap();
        let (one, _) = by_sync_client(&self.plant, keys, &folder.join("one"), readings);
        let peak_of_one = megabytes(agent, "VmHWM:");
        let mut at_once = ["–".to_owned(), "–".to_owned()];
        // So many of the largest would take half an hour and tell nothing new.
        if readings <= MOST_AT_ONCE {
            fs::write(format!("/proc/{}/clear_refs", agent.as_raw_nonzero()), "5").unwrap();
            let started = Instant::now();
            std::thread::scope(|scope| {
                for number in 0..scale.at_once {
                    let data = folder.join(format!("at-once-{number}"));
                    scope.spawn(move || by_sync_client(&self.plant, keys, &data, readings));
                }
            });
            let together = started.elapsed().as_secs_f64() / scale.at_once as f64;
            at_once = [format!("{:.1}", megabytes(agent, "VmHWM:")), format!("{:.0} %", 100.0 * one / together)];
        }
        let [peak_of_all, share] = at_once;
        vec![
            self.name.to_owned(),
            readings.to_string(),
            milliseconds(all.iter().map(|all| all.first).collect()),
            milliseconds(new.iter().map(|new| new.whole).collect()),
            format!("{idle:.1}"),
            format!("{peak_of_one:.1}"),
            peak_of_all,
            share,
        ]
    }

    fn first_bytes(&self, keys: &Headquarters, rounds: usize, query: &str) -> Vec<Answer> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/first_byte.py");
        let mut python = Command::new("python3");
        python.arg("-B").arg(script).arg(self.plant.agent_port().to_string()).arg(keys.keys.join("private.pem"));
        let said = run(python.args([&rounds.to_string(), query])).good();
        said.lines().map(Answer::parse).collect()
    }
}

/// What became of one request.
struct Answer {
    first: f64,
    whole: f64,
    count: u64,
    cursor: String,
}

impl Answer {
    fn parse(line: &str) -> Self {
        let fields: Vec<&str> = line.split(' ').collect();
        let seconds = |at: usize| fields[at].parse().unwrap();
        Self { first: seconds(0), whole: seconds(1), count: fields[2].parse().unwrap(), cursor: fields[3].to_owned() }
    }
}

/// Of a process' memory, in 10^6 bytes.
fn megabytes(process: Pid, what: &str) -> f64 {
    kilobytes(process, what) as f64 * 1024.0 / 1e6
}

/// The afternoon's work in Python, with packages of fixed versions in a virtual environment.
struct Python {
    server: Child,
    port: u16,
}

impl Python {
    /// `None`, said so, where that cannot be had.
    fn start(url: &str, folder: &Path) -> Option<Self> {
        let packages = ["fastapi==0.115.6", "uvicorn==0.34.0", "asyncpg==0.30.0"];
        let Ok(environment) = python::try_environment("fastapi", &packages) else {
            eprintln!("no comparison with Python: it needs python3-venv and packages from PyPI");
            return None;
        };
        let (key, certificate) = (folder.join("bench.key"), folder.join("bench.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=bench", "-days", "9", "-keyout"]);
        run(openssl.arg(&key).arg("-out").arg(&certificate)).good();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new(environment.join("bin/uvicorn"));
        server.arg("fastapi_export:app").args(["--log-level", "error", "--port", &port.to_string()]);
        server.arg("--app-dir").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches"));
        server.arg("--ssl-keyfile").arg(&key).arg("--ssl-certfile").arg(&certificate);
        let server = server.env("BENCH_DATABASE", url).env("PYTHONDONTWRITEBYTECODE", "1").spawn().unwrap();
        let python = Self { server, port };
        wait_for("uvicorn", Duration::from_secs(30), || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(python)
    }

    fn export(&self, folder: &Path) -> (f64, u64) {
        let out = folder.join("python.gz");
        let started = Instant::now();
        let url = format!("https://127.0.0.1:{}/export", self.port);
        run(Command::new("curl").args(["-k", "-s", "-S", "-f", "-o"]).arg(&out).arg(url)).good();
        (started.elapsed().as_secs_f64(), fs::metadata(out).unwrap().len())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// 200 tags at a cadence of a second; values walk at random.
fn fill(store: &mut dyn Store, from: usize, readings: usize) {
    let mut random = SmallRng::seed_from_u64(1);
    let mut values: Vec<f64> = (0..TAGS).map(|_| random.gen_range(0.0..100.0)).collect();
    let start = Timestamp::parse("2026-02-22T00:00:00Z").unwrap().as_micros();
    let tags: Vec<String> =
        (0..TAGS).map(|tag| format!("line1.press{:02}.temperature{:02}_c", tag / 20, tag % 20)).collect();
    for batch in from / BATCH..readings / BATCH {
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
