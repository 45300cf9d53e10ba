//! The supervisor's part in an update: follows the boot record, starts the applying process, and tells it when nothing
//! enters the database any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{InstallRoot, Settings};
use daemon::Control;
use durable::{Stamp, stamp};
use protocol::control::{PendingUpdate, UpdateStatus};
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;
use updater::boot_record::{BootRecord, Phase};
use updater::{apply, pending, progress, update_log};

use super::board::Board;
use super::desk::Desk;
use crate::process::{Log, Process};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A collector that cannot say by then that it spools ends the attempt.
const SPOOLING_WITHIN: Duration = Duration::from_secs(30);
/// A database that takes a connection and says nothing would keep the attempt open for ever.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(2 * 3600);
/// With so little room left in the spool a migration is ended, before readings are lost for it.
const LEAST_SPOOL_SECONDS: f64 = 30.0;
const HISTORY: usize = 20;
/// Of a package with thousands of files, the first are shown.
const CHANGES_SHOWN: usize = 200;
const APPLY_STOP: Duration = Duration::from_secs(10);

/// Tells the board what boot record, waiting package and progress say, whoever has changed them.
pub async fn follow(root: InstallRoot, board: Arc<Board>) {
    let mut shown = None;
    loop {
        // The phase itself: two changes of the boot record may fall into one tick of the file system's clock.
        let phase = BootRecord::read(&root.boot_record()).map(|record| record.phase).ok();
        let seen = Some((phase, stamps(&root)));
        if seen != shown || phase.is_some_and(|phase| phase != board.current_phase()) {
            shown = seen;
            show(&root, &board);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Tells it now.
pub fn show(root: &InstallRoot, board: &Board) {
    board.update(|| Some((BootRecord::read(&root.boot_record()).ok()?, read(root))));
}

fn read(root: &InstallRoot) -> UpdateStatus {
    UpdateStatus {
        pending: pending::read(root).map(bounded),
        progress: progress::read(root),
        history: update_log::newest(root, HISTORY),
    }
}

/// The whole lists stand in `meta.json`.
fn bounded(mut pending: PendingUpdate) -> PendingUpdate {
    let changes = &mut pending.changes;
    for list in [&mut changes.added, &mut changes.changed, &mut changes.removed] {
        let more = list.len().saturating_sub(CHANGES_SHOWN);
        if more > 0 {
            list.truncate(CHANGES_SHOWN);
            list.push(format!("… ({more} more)"));
        }
    }
    pending
}

fn stamps(root: &InstallRoot) -> [Stamp; 3] {
    [root.pending_meta(), root.update_progress(), root.update_log()].map(|path| stamp(&path))
}

/// Applies whatever is approved, until the process stops. Once the boot record no longer says that this version simply
/// runs, it is the launcher's turn, and this process ends.
pub async fn apply_approved(root: InstallRoot, board: Arc<Board>, desk: Arc<Desk>, control: Arc<Control>) {
    loop {
        tokio::select! {
            () = control.stopped() => return,
            () = desk.approved.notified() => {}
        }
        if let Err(error) = apply_once(&root, &board, &control, &desk.configuration.text()).await {
            tracing::error!(%error, "the update could not be started");
        }
        match BootRecord::read(&root.boot_record()) {
            // A package of keys was put to use, or an attempt ended before its switch.
            Ok(record) if record.phase == Phase::Committed => {
                let desk = desk.clone();
                let judged = tokio::task::spawn_blocking(move || desk.judge_waiting_package()).await;
                if let Err(error) = judged {
                    tracing::error!(%error, "the waiting update could not be judged");
                }
            }
            _ => control.stop(),
        }
    }
}

async fn apply_once(root: &InstallRoot, board: &Board, control: &Control, config_text: &str) -> std::io::Result<()> {
    let program = std::env::current_exe()?;
    let folder = root.path().to_string_lossy().into_owned();
    let arguments = ["apply", "--root", &folder];
    let environment = [(Settings::HANDED_ON, config_text)];
    let (mut process, _output) = Process::start(&program, &arguments, root.path(), &environment, Log::Inherited)?;
    // Closed, it ends the attempt.
    let mut input = process.input.take();
    let mut waiting_since: Option<Instant> = None;
    let (started, mut told) = (Instant::now(), false);
    loop {
        tokio::select! {
            status = process.wait() => {
                tracing::info!(code = status?.code(), "the applying process has ended");
                return Ok(());
            }
            () = control.stopped() => {
                drop(input);
                process.stop(APPLY_STOP).await;
                return Ok(());
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if started.elapsed() > ATTEMPT_WITHIN {
            tracing::error!("the update takes too long and is given up");
            process.stop(Duration::ZERO).await;
        }
        if board.current_phase() != Phase::Migrating {
            continue;
        }
        let since = *waiting_since.get_or_insert_with(Instant::now);
        if !told && board.nothing_stores() {
            told = true;
            if let Some(pipe) = &mut input {
                say_spooling(pipe).await;
            }
        }
        if !told && since.elapsed() > SPOOLING_WITHIN && input.take().is_some() {
            tracing::error!("the collector does not confirm that it spools; the update is given up");
        }
        if board.spool_seconds_left().is_some_and(|left| left < LEAST_SPOOL_SECONDS) {
            tracing::error!("the update takes longer than the spool has room for; it is given up");
            process.stop(Duration::ZERO).await;
        }
    }
}

async fn say_spooling(pipe: &mut ChildStdin) {
    let line = format!("{}\n", apply::SPOOLING);
    if let Err(error) = pipe.write_all(line.as_bytes()).await {
        tracing::error!(%error, "the applying process does not listen");
    }
}
