//! From devices to the readings store.
//!
//! Sources poll on their own cadence and hand readings to the acceptor, which makes them durable in the [`spool`] and
//! keeps the latest of each tag. The storer takes batches out of the spool, in order, and stores each exactly once.
//! Between the two there is nothing but the spool: the way is the same whether the database is up or has been down for
//! a day.

mod accept;
mod account;
mod history;
mod import;
mod live;
mod once;
mod pause;
mod retention;
mod set_aside;
pub mod source;
pub mod spool;
mod store;
mod tag;

use std::sync::{Arc, Mutex};

use config::{InstallRoot, Settings, Sources};
use daemon::{Control, Health};
use protocol::Failure;
use protocol::control::FromChild;
use updater::boot_record::{BootRecord, Phase};
use updater::database::ActiveDatabase;

use account::Account;
use retention::Retention;
use source::Polling;
use source::file::SourcesFile;
use spool::Spool;

pub use import::import;
pub use once::gather_once;

/// The collector's name among writers of the store.
const WRITER: &str = "collector";

/// Runs until it is told to stop.
///
/// # Errors
/// Bad configuration, a second collector on this root, or a disk that takes no spool.
pub async fn run(root: &InstallRoot) -> Result<(), Failure> {
    let settings = Settings::read(root)?;
    daemon::start_logging(&settings);
    let sources = Sources::read(&root.sources_file())?;
    let database = ActiveDatabase::of(root)?;
    let control = Arc::new(Control::start());
    let _only = only_collector(root)?;
    refuse_beside_update(root, &control)?;
    // Answering from here on: a spool that a long outage has left takes a while to read.
    let account = Arc::new(Account::new(&sources));
    let health = Health::bind(0).await?;
    let looked_at = live::routes(account.clone()).merge(history::routes(root, &database, &control));
    health.serve(control.clone(), account.clone(), looked_at);
    let folder = root.collector_state().join("spool");
    let spool = Spool::open(&folder, settings.spool_max_bytes, settings.low_disk_reserve_bytes)?;
    let spool = Arc::new(Mutex::new(spool));
    if control.is_on_trial() {
        probe(&database, root).await?;
    }
    let retention = settings
        .retention_days
        .map(|days| Retention::new(days.get(), settings.low_disk_reserve_bytes, &database.url, root.path()));
    let retention = retention.transpose()?;
    let storer = store::start(root.clone(), database, spool.clone(), account.clone(), control.clone(), retention);
    tokio::spawn(follow_phase(control.clone(), storer.waker()));
    let (readings, acceptor) = accept::start(spool.clone(), account.clone(), storer.waker());
    let mut sources_file = SourcesFile::new(root, &sources);
    let mut polling = Polling::start(sources, root, readings, &account);
    control.say(&FromChild::Ready { version: daemon::version().to_owned() });
    tracing::info!(tags = account.tags(), "collecting");

    // A collector that no longer reads all its devices is replaced.
    let broken = tokio::select! {
        () = account.report_until_stopped(&control, &spool) => None,
        failure = follow_sources(&mut sources_file, &mut polling, &account) => Some(failure),
    };
    // In the order of the way: no new readings, then all accepted ones into the spool, then what the store takes.
    polling.stop().await;
    acceptor.finish();
    let outcome = storer.finish();
    tracing::info!("stopped");
    broken.map_or(outcome, Err)
}

/// Takes up what changes in `sources.toml`. A mistake in it is shown, and everything goes on as it was.
async fn follow_sources(file: &mut SourcesFile, polling: &mut Polling, account: &Account) -> Failure {
    loop {
        let changed = tokio::select! {
            changed = file.changed() => changed,
            failure = polling.broken() => return failure,
        };
        match changed {
            Ok(Some(sources)) => {
                if let Err(failure) = polling.change_to(sources).await {
                    return failure;
                }
            }
            Ok(None) => account.sources_mistake(None),
            Err(mistakes) => {
                tracing::error!(%mistakes, "sources.toml is not taken up; everything goes on as it was");
                account.sources_mistake(Some(mistakes.to_string()));
            }
        }
    }
}

/// A version on trial has to show that it could store, and then only spools.
async fn probe(database: &ActiveDatabase, root: &InstallRoot) -> Result<(), Failure> {
    let (database, root) = (database.clone(), root.clone());
    let probed = tokio::task::spawn_blocking(move || database.open(root.path())?.probe()).await;
    Ok(probed.map_err(|error| Failure::failed(format!("trying the database failed: {error}")))??)
}

/// Wakes the storer when it has to stop storing, or may store again.
async fn follow_phase(control: Arc<Control>, storer: store::Waker) {
    let mut status = control.watch_plant_status();
    let mut frozen = control.frozen_for();
    while status.changed().await.is_ok() {
        if std::mem::replace(&mut frozen, control.frozen_for()) != frozen {
            storer.wake();
        }
    }
}

/// Started by hand it is told of no phase, and what it stored in the middle of an update could be lost with it.
fn refuse_beside_update(root: &InstallRoot, control: &Control) -> Result<(), Failure> {
    match BootRecord::read(&root.boot_record()) {
        Ok(record) if !control.is_supervised() && record.phase != Phase::Committed => {
            Err(Failure::try_later("an update is under way; let `watchdog run` bring it to its end first"))
        }
        _ => Ok(()),
    }
}

/// Two collectors would spool into one folder.
fn only_collector(root: &InstallRoot) -> Result<durable::Lock, Failure> {
    let folder = root.collector_state();
    std::fs::create_dir_all(&folder).map_err(|error| durable::name_error("create", &folder, error))?;
    durable::Lock::take(&folder.join("lock")).map_err(|error| match error {
        durable::LockError::Held(_) => Failure::failed("another collector runs on this root; stop it first"),
        durable::LockError::File(error) => error.into(),
    })
}
