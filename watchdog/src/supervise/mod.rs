//! `watchdog supervise`: starts collector, agent and portal in this order, keeps them running, tells everybody how they
//! are, and stops them in reverse.

mod board;
mod child;

use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use config::{Credentials, InstallRoot, Settings};
use daemon::{Control, Health};
use durable::Access;
use protocol::Failure;
use tokio::sync::watch;

use crate::license;
use crate::status::RunFile;
use board::Board;
use child::{Child, Orders};

/// In the order in which they start.
const CHILDREN: [&str; 3] = ["collector", "agent", "portal"];
/// The next child starts when the one before is ready, or after this.
const READY_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until it is told to stop, or its launcher is gone.
///
/// # Errors
/// Bad configuration, or a port in use.
pub async fn supervise(root: &InstallRoot) -> Result<(), Failure> {
    let settings = Settings::read(root)?;
    daemon::start_logging(&settings);
    Credentials::read(&root.credentials_file())?;
    let control = Arc::new(Control::start());
    let health = Health::bind(settings.metrics_port).await?;
    let board = Arc::new(Board::new(&CHILDREN, health.url()));
    let run_file = serde_json::to_vec(&RunFile { metrics_address: health.url() }).expect("an address serialises");
    durable::replace(&root.run_file(), &run_file, Access::Shared)?;
    health.serve(control.clone(), board.clone(), routes(&board));

    let (orders, _) = watch::channel(Orders::default());
    let mut children = Vec::new();
    for name in CHILDREN {
        if name == "collector" {
            judge_license(root, &settings, &board, &orders);
        }
        let child = Child::new(name, root, board.clone(), control.clone(), orders.subscribe());
        children.push(tokio::spawn(child.run()));
        let ready = board.ready(name);
        tokio::select! {
            () = control.stopped() => break,
            _ = tokio::time::timeout(READY_WITHIN, ready) => {}
        }
    }
    while tokio::time::timeout(LOOK_EVERY, control.stopped()).await.is_err() {
        follow_restart_flag(root, &orders);
        if !board.is_licensed() {
            judge_license(root, &settings, &board, &orders);
        }
    }
    // In reverse: the door first, the collector last.
    for (at, child) in children.into_iter().enumerate().rev() {
        orders.send_modify(|orders| orders.stop_from = at);
        let _ = child.await;
    }
    durable::remove(&root.run_file())?;
    tracing::info!("stopped");
    Ok(())
}

fn routes(board: &Arc<Board>) -> Router {
    let board = board.clone();
    Router::new().route("/status", get(async move || Json(board.status())))
}

/// The collector waits for a licence; once it runs it is never stopped for one.
fn judge_license(root: &InstallRoot, settings: &Settings, board: &Board, orders: &watch::Sender<Orders>) {
    let outcome = license::check(root, settings);
    let licensed = outcome.is_ok();
    if let Err(reason) = &outcome
        && board.is_licensed()
    {
        tracing::error!(reason, "no valid licence; the collector is not started");
    }
    board.license(outcome.err());
    orders.send_if_modified(|orders| std::mem::replace(&mut orders.licensed, licensed) != licensed);
}

/// Removed first, so that a restart that fails is not asked for again and again.
fn follow_restart_flag(root: &InstallRoot, orders: &watch::Sender<Orders>) {
    if !root.restart_flag().exists() {
        return;
    }
    match durable::remove(&root.restart_flag()) {
        Ok(()) => match Settings::read(root) {
            Ok(_) => {
                tracing::info!("restart.flag: everything restarts once");
                orders.send_modify(|orders| orders.restarts += 1);
            }
            Err(error) => {
                tracing::error!(%error, "restart.flag is not followed: config.txt is wrong, all runs on as it is")
            }
        },
        Err(error) => tracing::error!(%error, "restart.flag cannot be removed and is not followed"),
    }
}
