//! The whole product, started as its users start it: what the demo and the stories have in common.
//!
//! [`programs`] finds the built executables, [`headquarters`] has keys and pulls, [`plant`] is an install root with a
//! running watchdog, [`portal`] is how its operator is played, [`browser`] is what he looks at, [`proxy`] cuts connections, [`python`] starts device servers from PyPI, [`release`] is a new version as a publisher makes it,
//! [`exactly_once`] compares what HQ has with what the plant stored, [`crash_points`] kills an update wherever it
//! changes something, [`lossy_disk`] cuts the power there, [`windows`] builds the programs for Windows and runs them, and
//! [`needs`] is what all that needs of the system; [`steps`] runs commands and times them.

#![cfg(unix)]

pub mod browser;
pub mod crash_points;
pub mod exactly_once;
pub mod headquarters;
pub mod lossy_disk;
pub mod needs;
pub mod plant;
pub mod portal;
pub mod programs;
pub mod proxy;
pub mod python;
pub mod release;
pub mod steps;
pub mod windows;

use std::time::{Duration, Instant};

use rustix::process::Pid;

/// Of several measurements of the same, for a table: the median, and from where to where they went.
pub fn columns(mut values: Vec<f64>) -> (String, String) {
    values.sort_by(f64::total_cmp);
    match (values.first(), values.last()) {
        (Some(least), Some(most)) => (format!("{:.2}", values[values.len() / 2]), format!("{least:.2} – {most:.2}")),
        _ => (String::new(), String::new()),
    }
}

/// What `/proc/<pid>/status` says of a process' memory, such as `VmHWM:`.
///
/// # Panics
/// If there is no such process, or no such line.
pub fn kilobytes(process: Pid, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero()));
    let status = status.unwrap_or_else(|error| panic!("{process:?}: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {what} of {process:?}"))
}

/// Asks until there is an answer; the stories' only way of waiting.
///
/// # Panics
/// When there is none in time, with what was waited for.
pub fn wait_for<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
