//! How far an update is, for people: kept on disk, so that it can be told again after the programs have restarted.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use config::InstallRoot;
use protocol::control::ProgressStep;

/// Forgets the last attempt's steps.
pub fn begin(root: &InstallRoot) {
    let file = root.update_progress();
    let made = file.parent().map(fs::create_dir_all).transpose().and_then(|_| fs::write(&file, b""));
    // Nothing depends on it: an update goes on without.
    if let Err(error) = made {
        eprintln!("progress cannot be shown: {error}");
    }
}

/// Notes a step that begins, with the share of the whole that will be done when it ends.
pub fn note(root: &InstallRoot, step: &str, pct: u8, msg: &str) {
    let step = ProgressStep { step: step.to_owned(), pct, msg: msg.to_owned() };
    let mut line = serde_json::to_vec(&step).expect("plain strings serialise");
    line.push(b'\n');
    let written = durable::patiently(|| OpenOptions::new().create(true).append(true).open(root.update_progress()));
    if let Err(error) = written.and_then(|mut file| file.write_all(&line)) {
        eprintln!("progress cannot be shown: {error}");
    }
}

/// As [`note`], unless the last step is this one: whoever was killed behind it comes here again.
pub fn note_once(root: &InstallRoot, step: &str, pct: u8, msg: &str) {
    if read(root).last().is_none_or(|last| last.step != step) {
        note(root, step, pct, msg);
    }
}

/// The steps of the attempt that is under way, or of the last one.
pub fn read(root: &InstallRoot) -> Vec<ProgressStep> {
    let text = fs::read_to_string(root.update_progress()).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
