//! A disk that loses what was not synced, as a power cut does: which no killed process shows, because the kernel keeps what
//! it has written.
//!
//! [`Recording`] runs an update's processes on a root under strace and makes their system calls again on a model of files
//! and folder entries ([`Disk`]). Wherever the model is stopped, [`Disk::after_power_cut`] says what may be found then:
//! what was synced, and any part of the rest. A sync of a file keeps what it holds, and only a sync of the folder keeps
//! the entry that leads there; a rename is lost or kept as one; a write may be torn at sectors. With nothing lost the model
//! must be what the root really holds after each run, byte for byte: so it misses no system call.

mod disk;
mod trace;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::crash_points::{Bench, Run};

pub use disk::{Disk, Survives, Tree};
use trace::{Call, Process, TRACED};

/// Enough for whatever an update of tiny programs writes at once.
const LONGEST_WRITE_BYTES: &str = "16777216";

/// Runs on a root, one after the other, to be gone through again call by call.
pub struct Recording {
    before: Disk,
    root: PathBuf,
    runs: Vec<(Run, Vec<Call>)>,
}

/// A place in a recording: behind a system call that has changed something or made it durable.
#[derive(Clone, Debug)]
pub struct Point {
    pub run: Run,
    /// Counts the calls of this run that are points.
    pub number: usize,
    pub call: String,
}

impl Recording {
    /// Runs all of them on the root, of which everything is durable at first. What one run has not synced may still be
    /// lost during the next.
    ///
    /// # Panics
    /// If a run does not end well, or the model is not what the root holds.
    pub fn of(bench: &Bench, runs: &[Run]) -> Self {
        Self::after(Disk::read(bench.root.path()), bench, runs)
    }

    /// As [`Recording::of`], on a root in which not everything is durable.
    ///
    /// # Panics
    /// As there.
    pub fn after(before: Disk, bench: &Bench, runs: &[Run]) -> Self {
        let mut recording = Self { before, root: bench.root.path().to_owned(), runs: Vec::new() };
        for run in runs {
            let log = bench.root.path().with_extension("strace");
            let mut strace = Command::new("strace");
            strace.args(["-f", "-xx", "-s", LONGEST_WRITE_BYTES, "-e", &format!("trace={TRACED}"), "-o"]).arg(&log);
            assert_eq!(bench.run_under(strace, *run), Some(0), "{run:?} ends well when undisturbed");
            recording.runs.push((*run, trace::parse(&fs::read_to_string(log).expect("strace has written a log"))));
            let differences = recording.each_point(|_, _| {}).now().differences(&Tree::read(bench.root.path()));
            assert!(differences.is_empty(), "after {run:?} the model is not the root: {differences:?}");
        }
        recording
    }

    /// Goes through all the points; the model as the last run leaves it.
    pub fn each_point(&self, mut each: impl FnMut(&Point, &Disk)) -> Disk {
        let mut disk = self.before.clone();
        for (run, calls) in &self.runs {
            let mut process = Process::new(&self.root);
            let mut number = 0;
            for call in calls {
                if process.make(&mut disk, call) {
                    number += 1;
                    each(&Point { run: *run, number, call: call.name.clone() }, &disk);
                }
            }
        }
        disk
    }
}
