//! Processes of a version directory that outlived their supervisor: one that hangs does not see that its standard input
//! has closed, and would keep the port that its successor needs.

use std::path::Path;
use std::time::{Duration, Instant};

/// Children see at once that their supervisor is gone, and end by themselves.
const BY_THEMSELVES: Duration = Duration::from_secs(2);

/// Waits for them, and kills what stays.
pub async fn wait_until_gone(directory: &Path) {
    let deadline = Instant::now() + BY_THEMSELVES;
    while !pids_of(directory).is_empty() {
        if Instant::now() > deadline {
            kill_all_of(directory);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if Instant::now() > deadline + BY_THEMSELVES {
            tracing::error!(directory = %directory.display(), "processes of a version cannot be ended");
            return;
        }
    }
}

#[cfg(unix)]
pub fn kill_all_of(directory: &Path) {
    for pid in pids_of(directory) {
        tracing::warn!(pid = pid.as_raw_nonzero().get(), "a process that outlived its supervisor is killed");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// By the executables that run, which nobody can lie about; an import that a person has started is none of ours.
#[cfg(unix)]
fn pids_of(directory: &Path) -> Vec<rustix::process::Pid> {
    let mut pids = Vec::new();
    // What `/proc` shows has no symlinks in it.
    let Ok(directory) = directory.canonicalize() else { return pids };
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let runs = std::fs::read_link(entry.path().join("exe")).is_ok_and(|program| program.starts_with(&directory))
            && std::fs::read(entry.path().join("environ")).is_ok_and(|environment| is_supervised(&environment));
        pids.extend(rustix::process::Pid::from_raw(pid).filter(|_| runs));
    }
    pids
}

#[cfg(unix)]
fn is_supervised(environment: &[u8]) -> bool {
    environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(daemon::SUPERVISED.as_bytes()))
}

/// The job object takes them with their supervisor.
#[cfg(not(unix))]
pub fn kill_all_of(_: &Path) {}

#[cfg(not(unix))]
fn pids_of(_: &Path) -> Vec<u32> {
    Vec::new()
}
