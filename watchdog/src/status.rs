//! `watchdog status`: asks the running watchdog, which it finds by the root alone.

use std::time::Duration;

use comfy_table::{Table, presets};
use config::InstallRoot;
use durable::Lock;
use protocol::Failure;
use protocol::control::{PendingState, PlantStatus};
use serde::{Deserialize, Serialize};

/// `state/run.json`: where the running supervisor answers. True only while the launcher holds its lock.
#[derive(Serialize, Deserialize)]
pub struct RunFile {
    pub metrics_address: String,
}

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Prints what runs on a root.
///
/// # Errors
/// Exit code 69 when nothing does.
pub async fn show_status(root: &InstallRoot, as_json: bool) -> Result<(), Failure> {
    let nobody = || Failure::unreachable(format!("no watchdog runs on {}", root.path().display()));
    if !Lock::is_held(&root.launcher_lock()) {
        return Err(nobody());
    }
    let run_file = std::fs::read(root.run_file()).ok().and_then(|bytes| serde_json::from_slice::<RunFile>(&bytes).ok());
    let address = run_file.ok_or_else(nobody)?.metrics_address;
    let starting = |error: String| {
        Failure::unreachable(format!("the watchdog on {} does not answer: {error}", root.path().display()))
    };
    let (_, body) = daemon::ask(&format!("{address}/status"), ANSWER_WITHIN).await.map_err(starting)?;
    let status: PlantStatus = serde_json::from_slice(&body).map_err(|error| starting(error.to_string()))?;
    if as_json {
        println!("{}", serde_json::to_string(&status).expect("a status serialises"));
    } else {
        print(&status);
    }
    Ok(())
}

fn print(status: &PlantStatus) {
    println!("version {} ({})", status.version, status.phase);
    if let Some(pending) = &status.update.pending {
        let version = &pending.version;
        match pending.state {
            PendingState::Waiting => println!("update {version} waits for the operator"),
            PendingState::Postponed => println!("update {version} was put off by the operator"),
            PendingState::Applying => println!("update {version} is being applied: {}", progress(status)),
            // Told below, with the reason.
            PendingState::Failed => {}
        }
    }
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(["program", "pid", "state", "uptime", "restarts", "address"]);
    for child in &status.children {
        let pid = child.pid.map_or_else(|| "–".to_owned(), |pid| pid.to_string());
        let address = child.address.as_deref().map_or_else(|| "–".to_owned(), reachable);
        let uptime = uptime(child.uptime_seconds);
        table.add_row([
            child.name.clone(),
            pid,
            child.state.word().to_owned(),
            uptime,
            child.restarts.to_string(),
            address,
        ]);
    }
    println!("{table}");
    println!("readings in the spool: {}", status.spool_readings);
    for problem in &status.problems {
        println!("{problem}");
    }
}

/// An address that can be opened on this machine.
fn reachable(address: &str) -> String {
    for (every, one) in [("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")] {
        if address.contains(every) {
            return format!("{}, and from elsewhere", address.replace(every, one));
        }
    }
    address.to_owned()
}

fn progress(status: &PlantStatus) -> String {
    let step = status.update.progress.last();
    step.map_or_else(|| "beginning".to_owned(), |step| format!("{} % {}", step.pct, step.msg))
}

fn uptime(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}
