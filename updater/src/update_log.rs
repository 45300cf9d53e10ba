//! `agent/update_log.jsonl`: one line an attempt.

use std::fs;
use std::io;

use config::InstallRoot;
use durable::Access;
use protocol::control::Attempted;

/// Adds the attempt's line, unless it is there: whoever was killed behind this step takes it again.
///
/// # Errors
/// Those of the file system.
pub fn add(root: &InstallRoot, attempted: &Attempted) -> io::Result<()> {
    let file = root.update_log();
    let bytes = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| durable::name_error("read", &file, error))?,
    };
    // A damaged line is kept as far as it can be read, and keeps no other from being added.
    let text = String::from_utf8_lossy(&bytes);
    if lines(&text).any(|line| line.id == attempted.id) {
        // Who was killed may not have come to this.
        return durable::sync_folder_of(&file);
    }
    let line = serde_json::to_string(attempted).expect("plain values serialise");
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    durable::replace(&file, format!("{text}{separator}{line}\n").as_bytes(), Access::Shared)
}

/// The newest attempts, newest first.
pub fn newest(root: &InstallRoot, at_most: usize) -> Vec<Attempted> {
    let bytes = fs::read(root.update_log()).unwrap_or_default();
    let mut attempts: Vec<Attempted> = lines(&String::from_utf8_lossy(&bytes)).collect();
    attempts.reverse();
    attempts.truncate(at_most);
    attempts
}

fn lines(text: &str) -> impl Iterator<Item = Attempted> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}
