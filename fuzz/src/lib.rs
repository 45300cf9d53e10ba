//! What the targets share.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use protocol::Timestamp;
use rustix::fs::MemfdFlags;
use semver::Version;
use updater::package::{Dialect, Situation};
use updater::trusted_time::TrustedTime;

/// A file that holds `bytes`, on no disk.
pub fn file_of(bytes: &[u8]) -> File {
    let file = rustix::fs::memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("memory for a file");
    let mut file = File::from(file);
    file.write_all(bytes).expect("memory for a file");
    file.rewind().expect("a file in memory can be sought");
    file
}

/// Where an open file can be opened once more.
pub fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// A plant that runs 1.0.0 and once ran 1.1.0, in June 2026.
pub fn situation(dialect: Dialect) -> Situation {
    Situation {
        running: Version::new(1, 0, 0),
        running_id: "1.0.0-aaaaaaaa".to_owned(),
        floor: Version::new(1, 1, 0),
        waiting: None,
        platform: "linux-x86_64".to_owned(),
        time: TrustedTime { clock: Timestamp::parse("2026-06-01T00:00:00Z").expect("a time"), floor: None },
        allow_unbound: true,
        dialect,
        keys_version: 0,
        session_keys: Vec::new(),
    }
}
