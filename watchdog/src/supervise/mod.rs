//! `watchdog supervise`: starts collector, agent and portal in this order, keeps them running, tells everybody how they
//! are, and stops them in reverse.

mod board;
mod child;
mod desk;
mod journal;
mod pin;
mod ports;
mod updating;

use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use config::{InstallRoot, Settings};
use daemon::{Control, Health};
use durable::Access;
use protocol::Failure;
use protocol::control::{EventKind, FromChild};
use tokio::sync::watch;
use updater::boot_record::Phase;

use crate::configuration::{Change, Configuration};
use crate::status::RunFile;
use crate::{certificate, license};
use board::Board;
#[cfg(windows)]
pub(crate) use child::keep_log;
use child::{Child, Orders};
use desk::Desk;
use journal::Journal;
pub use pin::PinJudge;
use ports::Ports;

/// In the order in which they start.
const CHILDREN: [&str; 3] = ["collector", "agent", "portal"];
/// The collector only spools then.
const WITHOUT_DATABASE: [&str; 2] = ["collector", "portal"];
/// Set by the launcher once a supervisor of its own has had a running collector.
pub(crate) const HAS_COLLECTED: &str = "PLANTLINK_HAS_COLLECTED";
/// Set by the launcher: whose users the children run as.
pub(crate) const CHILD_USERS: &str = "PLANTLINK_CHILD_USERS";
const BEAT_EVERY: Duration = Duration::from_millis(250);
/// The next child starts when the one before is ready, or after this.
const READY_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until it is told to stop, its launcher is gone, or an update wants the launcher's turn.
///
/// # Errors
/// Bad configuration, or a port in use.
pub async fn supervise(root: &InstallRoot) -> Result<(), Failure> {
    let configuration = Arc::new(Configuration::start(root)?);
    let settings = configuration.settings();
    daemon::start_logging(&settings);
    let record = updater::settle::read(root)?;
    let control = Arc::new(Control::start());
    let ports = Arc::new(Ports::read(root));
    let health = bind_health(&settings, &ports).await?;
    let children = children_in(record.phase);
    let journal = Arc::new(Journal::open(root));
    journal.note(EventKind::Started, daemon::version(), "");
    let board = Arc::new(Board::new(children, health.url(), &record, journal.clone()));
    board.configuration(configuration.mistake());
    let run_file = serde_json::to_vec(&RunFile { metrics_address: health.url() }).expect("an address serialises");
    // A hint for `watchdog status`: a full disk does not keep the plant from running.
    if let Err(error) = durable::replace(&root.run_file(), &run_file, Access::Shared) {
        tracing::error!(%error, "`watchdog status` will not find this watchdog");
    }
    if std::env::var_os(CHILD_USERS).is_none() {
        tracing::info!("all programs run as one user; only what the kernel offers limits what each may write");
    }
    health.serve(control.clone(), board.clone(), routes(&board));
    let desk = Arc::new(Desk::new(root, configuration.clone(), board.clone()));
    tokio::spawn(updating::follow(root.clone(), board.clone()));
    let applying = updating::apply_approved(root.clone(), board.clone(), desk.clone(), control.clone());
    let applying = tokio::spawn(applying);
    tokio::spawn(beat(board.clone(), control.clone()));
    let judging = desk.clone();
    tokio::task::spawn_blocking(move || judging.judge_waiting_package());

    let (orders, _) = watch::channel(Orders::default());
    let mut running = Vec::new();
    for &name in children {
        if name == "collector" {
            judge_license(root, &settings, &board, &orders);
        }
        let child = Child {
            name,
            place: running.len(),
            root: root.clone(),
            board: board.clone(),
            control: control.clone(),
            desk: desk.clone(),
            configuration: configuration.clone(),
            ports: ports.clone(),
            orders: orders.subscribe(),
        };
        running.push(tokio::spawn(child.run()));
        let ready = board.ready(name);
        tokio::select! {
            () = control.stopped() => break,
            _ = tokio::time::timeout(READY_WITHIN, ready) => {}
        }
    }
    let mut phase = record.phase;
    board.unusable_files(unusable_files(root, &configuration.settings()));
    while tokio::time::timeout(LOOK_EVERY, control.stopped()).await.is_err() {
        journal.look_at_clock();
        follow_restart_flag(root, &journal, &orders);
        // An update restarts them all, and is not to be disturbed.
        if board.current_phase() == Phase::Committed {
            take_up_configuration(root, &configuration, &board, &desk, &orders, children);
        }
        if board.current_phase() != phase {
            phase = board.current_phase();
            // A schema that was not its own may be, once an update is over.
            orders.send_modify(|orders| orders.tries += 1);
        }
        if !board.is_licensed() {
            judge_license(root, &configuration.settings(), &board, &orders);
        }
    }
    // In reverse: the door first, the collector last.
    for (at, child) in running.into_iter().enumerate().rev() {
        orders.send_modify(|orders| orders.stop_from = at);
        let _ = child.await;
    }
    let _ = applying.await;
    // Not that of the next one, which may be up already.
    if std::fs::read(root.run_file()).is_ok_and(|there| there == run_file) {
        durable::remove(&root.run_file())?;
    }
    journal.note(EventKind::Stopped, daemon::version(), "");
    tracing::info!("stopped");
    Ok(())
}

async fn bind_health(settings: &Settings, ports: &Ports) -> Result<Health, Failure> {
    let last = ports.last("watchdog").filter(|_| settings.metrics_port == 0);
    let health = match last {
        Some(port) => Health::bind(port).await,
        None => Health::bind(settings.metrics_port).await,
    };
    let health = if last.is_some() && health.is_err() { Health::bind(0).await? } else { health? };
    ports.note("watchdog", &health.url());
    Ok(health)
}

/// While it cannot be asked which database is the right one, nothing may look into it.
fn children_in(phase: Phase) -> &'static [&'static str] {
    match phase {
        Phase::Migrating | Phase::FallingBack => &WITHOUT_DATABASE,
        Phase::Committed | Phase::Preparing | Phase::Trial | Phase::Committing => &CHILDREN,
    }
}

/// Shows the launcher that this process lives, and how its children are.
async fn beat(board: Arc<Board>, control: Arc<Control>) {
    while tokio::time::timeout(BEAT_EVERY, control.stopped()).await.is_err() {
        control.say(&FromChild::Pulse(board.pulse()));
    }
}

fn routes(board: &Arc<Board>) -> Router {
    let (board, journal) = (board.clone(), board.journal.clone());
    Router::new()
        .route("/status", get(async move || Json(board.status())))
        .route("/events", get(async move || Json(journal.newest())))
}

/// The collector waits for a licence; once it has run it is never stopped for one, also by a restart that an update
/// brings.
fn judge_license(root: &InstallRoot, settings: &Settings, board: &Board, orders: &watch::Sender<Orders>) {
    let has_run = std::env::var_os(HAS_COLLECTED).is_some();
    let outcome = if has_run { Ok(()) } else { license::check(root, settings) };
    let licensed = outcome.is_ok();
    if let Err(reason) = &outcome
        && board.is_licensed()
    {
        tracing::error!(reason, "no valid licence; the collector is not started");
        board.journal.note(EventKind::Unlicensed, "", reason);
    }
    board.license(outcome.err());
    orders.send_if_modified(|orders| std::mem::replace(&mut orders.licensed, licensed) != licensed);
}

/// Restarts only what a change concerns. A mistake is shown, and everything goes on as it was.
fn take_up_configuration(
    root: &InstallRoot,
    configuration: &Configuration,
    board: &Board,
    desk: &Arc<Desk>,
    orders: &watch::Sender<Orders>,
    children: &[&str],
) {
    let Change { files_changed, pin_changed, concerned, mistake_changed } = configuration.look();
    if pin_changed {
        board.journal.note(EventKind::PinChanged, "on_site", "");
    }
    if files_changed {
        board.unusable_files(unusable_files(root, &configuration.settings()));
    }
    if mistake_changed {
        let mistake = configuration.mistake();
        match &mistake {
            Some(mistake) => {
                tracing::error!(mistake, "the configuration is not taken up; everything goes on as it was");
                board.journal.note(EventKind::ConfigurationMistake, "", mistake);
            }
            None => tracing::info!("the configuration is right again"),
        }
        board.configuration(mistake);
    }
    if !concerned.is_empty() {
        tracing::info!(programs = ?concerned, "the configuration has changed, and restarts what it concerns");
        let programs: Vec<&str> = concerned.iter().copied().collect();
        board.journal.note(EventKind::ConfigurationTaken, &programs.join(", "), "");
    }
    if files_changed || !concerned.is_empty() {
        // In one: whoever waits for its configuration and is concerned starts once.
        orders.send_modify(|orders| {
            orders.tries += u64::from(files_changed);
            for (restarts, _) in orders.restarts.iter_mut().zip(children).filter(|(_, name)| concerned.contains(*name))
            {
                *restarts += 1;
            }
        });
    }
    if concerned.contains("agent") {
        // Who may sign, and what may be put on what, may be other than when the waiting package came.
        let judging = desk.clone();
        tokio::task::spawn_blocking(move || judging.judge_waiting_package());
    }
}

/// Files without which the plant runs, but something is not done.
fn unusable_files(root: &InstallRoot, settings: &Settings) -> Vec<String> {
    let record = updater::settle::read(root).ok();
    let keys = record.and_then(|record| updater::trusted_keys::read(root, settings, &record).err());
    let keys = keys.map(|failure| format!("no update is taken: {}", failure.message));
    let pair = certificate::check_of_portal(root, settings).err();
    let pair = pair.map(|failure| format!("the portal is shown on this PC alone: {}", failure.message));
    keys.into_iter().chain(pair).collect()
}

/// Removed first, so that a restart that fails is not asked for again and again.
fn follow_restart_flag(root: &InstallRoot, journal: &Journal, orders: &watch::Sender<Orders>) {
    if !root.restart_flag().exists() {
        return;
    }
    match durable::remove(&root.restart_flag()) {
        Ok(()) => {
            tracing::info!("restart.flag: everything restarts once");
            journal.note(EventKind::RestartAsked, "restart.flag", "");
            orders.send_modify(|orders| orders.restarts.iter_mut().for_each(|restarts| *restarts += 1));
        }
        Err(error) => tracing::error!(%error, "restart.flag cannot be removed and is not followed"),
    }
}
