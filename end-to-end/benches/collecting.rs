//! `cargo bench --bench collecting`: what a collector of 10,000 tags, each read every second, takes of a core and of memory,
//! beside one of 100 tags. `-- --quick` is a small one, which shows that it works and no more.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a measurement that goes wrong says where")]

use std::fs;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use end_to_end::headquarters::Headquarters;
use end_to_end::kilobytes;
use end_to_end::plant::Plant;
use end_to_end::programs;
use private_postgres::{Options, PrivatePostgres};
use rustix::process::Pid;

const SQLITE: &str = "sqlite:data/plant.db";

/// How much of it there is.
struct Scale {
    tags: &'static [u32],
    /// Not measured: the first batches make tags and files.
    warm_up: Duration,
    measured: Duration,
}

const FULL: Scale = Scale { tags: &[100, 10_000], warm_up: Duration::from_secs(10), measured: Duration::from_secs(60) };
const QUICK: Scale = Scale { tags: &[1_000], warm_up: Duration::from_secs(2), measured: Duration::from_secs(2) };

fn main() {
    let scale = if std::env::args().any(|argument| argument == "--quick") { QUICK } else { FULL };
    programs::build().unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir_in(programs::folder()).unwrap();
    let server = PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let keys = Headquarters::new(&folder.path().join("keys"), folder.path());
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["store", "tags", "readings a second", "of one core (%)", "peak memory (MB)"]);
    for tags in scale.tags {
        for (name, url) in [("SQLite", SQLITE.to_owned()), ("PostgreSQL", server.new_database())] {
            let root = folder.path().join(format!("{name}-{tags}"));
            let mut plant = Plant::init(&root, &keys, &url, *tags, None);
            plant.start_and_wait();
            pass(scale.warm_up);
            let collector = plant.pid("collector");
            let (cpu, stored, started) = (cpu_seconds(collector), plant.stored(), Instant::now());
            pass(scale.measured);
            let seconds = started.elapsed().as_secs_f64();
            let share = 100.0 * (cpu_seconds(collector) - cpu) / seconds;
            let rate = (plant.stored() - stored) as f64 / seconds;
            let peak = kilobytes(collector, "VmHWM:") as f64 * 1024.0 / 1e6;
            table.add_row([
                name,
                &tags.to_string(),
                &format!("{rate:.0}"),
                &format!("{share:.1}"),
                &format!("{peak:.1}"),
            ]);
            plant.stop();
        }
    }
    println!("{table}");
}

/// What is measured is what happens in a stretch of time.
fn pass(stretch: Duration) {
    std::thread::sleep(stretch);
}

/// That a process has had a processor for, in its own code and in the kernel's.
fn cpu_seconds(process: Pid) -> f64 {
    /// The kernel counts in these for user space, on every architecture that we build for.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap();
    // Behind the name, which may hold anything: the fields from the third on.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = [11, 12].into_iter().map(|at| fields[at].parse::<u64>().unwrap()).sum();
    ticks as f64 / TICKS_A_SECOND
}
