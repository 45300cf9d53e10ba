//! Processes of a version that outlived their supervisor: one that hangs does not see that its standard input has closed,
//! and would keep the port that its successor needs.

use std::path::Path;
use std::time::{Duration, Instant};

/// Set for a supervisor and so for all its descendants, however they are called: the version directory that they belong to.
pub const VERSION_DIRECTORY: &str = "PLANTLINK_VERSION_DIRECTORY";

/// Children see at once that their supervisor is gone, and end by themselves.
const BY_THEMSELVES: Duration = Duration::from_secs(2);

const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits for those that belong to `directory` or something below it, and kills what stays.
pub async fn wait_until_gone(directory: &Path) {
    let deadline = Instant::now() + BY_THEMSELVES;
    while !are_gone(directory, deadline) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The same for a program of one thread, which is all that changes a root on site.
pub fn wait_until_gone_here(directory: &Path) {
    let deadline = Instant::now() + BY_THEMSELVES;
    while !are_gone(directory, deadline) {
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Whether there are none, or none that can be ended.
fn are_gone(directory: &Path, deadline: Instant) -> bool {
    if pids_of(directory).is_empty() {
        return true;
    }
    if Instant::now() > deadline + BY_THEMSELVES {
        tracing::error!(directory = %directory.display(), "processes of a version cannot be ended");
        return true;
    }
    if Instant::now() > deadline {
        kill_all_of(directory);
    }
    false
}

#[cfg(unix)]
fn kill_all_of(directory: &Path) {
    for pid in pids_of(directory) {
        tracing::warn!(pid = pid.as_raw_nonzero().get(), "a process that outlived its supervisor is killed");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// By the environment that they have inherited; an import that a person has started has none of it.
#[cfg(unix)]
fn pids_of(directory: &Path) -> Vec<rustix::process::Pid> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        pids.extend(rustix::process::Pid::from_raw(pid).filter(|_| belongs(&environment, directory)));
    }
    pids
}

#[cfg(unix)]
fn belongs(environment: &[u8], directory: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let named = |entry: &[u8]| {
        let value = entry.strip_prefix(VERSION_DIRECTORY.as_bytes())?.strip_prefix(b"=")?;
        Some(Path::new(std::ffi::OsStr::from_bytes(value)).starts_with(directory))
    };
    environment.split(|byte| *byte == 0).any(|entry| named(entry) == Some(true))
}

/// The job object takes them with their supervisor.
#[cfg(not(unix))]
fn kill_all_of(_: &Path) {}

#[cfg(not(unix))]
fn pids_of(_: &Path) -> Vec<u32> {
    Vec::new()
}
