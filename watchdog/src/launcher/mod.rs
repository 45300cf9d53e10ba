//! `watchdog run`: the launcher, which no package changes. It locks the root, brings whatever was begun to its end, starts
//! the version that the boot record names, watches its trial, and starts again what ends.
//!
//! It decides nothing by itself: the boot record is changed by `watchdog settle`, a process of one thread that does one
//! thing, and what is to be done follows from `updater::recovery`.

mod manager;
mod safe_mode;
mod settling;
pub(crate) mod strays;
mod supervisor;
mod trial;

use std::path::Path;
use std::time::{Duration, Instant};

use config::InstallRoot;
use daemon::Control;
use durable::{Lock, LockError};
use protocol::{Exit, Failure};
use updater::boot_record::{BootRecord, Phase};
use updater::settle::Damage;
use updater::{settle, situation};

use crate::backoff::{Backoff, Pause};
use crate::configuration::Configuration;
use crate::on_site::no_root;
use crate::{executable, license};
use manager::Manager;
use settling::{Settling, Why};
use supervisor::{Event, Supervisor};
use trial::{Trial, Verdict};

/// The supervisor stops its children one after the other, ten seconds each at most.
const STOP_WITHIN: Duration = Duration::from_secs(35);
/// A version that is given up has had its chance; the old one waits.
const GIVE_UP_WITHIN: Duration = Duration::from_secs(3);
/// A supervisor that has shown no life for so long hangs.
const SILENT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// While nothing of the plant runs, nobody waits longer for a database than this.
const SETTLE_FIRST_WITHIN: Duration = Duration::from_secs(8);
/// Beside a running collector there is time.
const SETTLE_WITHIN: Duration = Duration::from_secs(2 * 3600);
/// How soon what could not be settled is tried again.
const SETTLE_AGAIN: Duration = Duration::from_secs(5);
const LONGEST_ERROR: usize = 300;
/// Until somebody comes and puts it right.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Between two runs that were over at once, whatever the reason.
const BREATH: Duration = Duration::from_secs(1);

/// Runs until it is told to stop; with `users`, the children as users of their own.
///
/// # Errors
/// Another watchdog on this root, no install root, a bad configuration.
pub async fn launch(root: &InstallRoot, users: Option<&str>) -> Result<(), Failure> {
    let configuration = Configuration::start(root)?;
    daemon::start_logging(&configuration.settings());
    #[cfg(target_os = "linux")]
    if let Some(users) = users {
        crate::confine::require_users(users)?;
        // What is made from here on and is no secret (versions, certificates, keys of others) is read by programs that are
        // other users, whatever umask the service manager has set.
        rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    }
    let _only = only_watchdog(root)?;
    let control = Control::start();
    match (settle::read(root), settle::damage(root)) {
        (Err(failure), Some(Damage::Mendable)) => {
            tracing::error!(%failure, "what was last committed is certain, and runs again");
        }
        (Err(failure), Some(Damage::Lost)) => {
            let mut manager = Manager::start();
            manager.busy_for(FOR_EVER);
            manager.up();
            safe_mode::tell(&configuration.settings(), &control, &failure).await;
            return Err(failure);
        }
        (outcome, _) => drop(outcome?),
    }
    // What a killed launcher has left goes by itself, or has to.
    strays::wait_until_gone(&root.versions()).await;
    let (users, manager) = (users.map(str::to_owned), Manager::start());
    let root = root.clone();
    let mut launcher = Launcher { root, configuration, control, users, has_collected: false, manager };
    launcher.run().await
}

fn only_watchdog(root: &InstallRoot) -> Result<Lock, Failure> {
    Lock::take(&root.launcher_lock()).map_err(|error| match error {
        LockError::Held(_) => {
            Failure::failed(format!("another watchdog runs on {}; stop it first", root.path().display()))
        }
        LockError::File(error) if error.kind() == std::io::ErrorKind::NotFound => no_root(root),
        LockError::File(error) => error.into(),
    })
}

/// How a run of a version came to its end.
enum End {
    /// The launcher was told to stop.
    Stopped,
    /// The boot record calls for something else than what ran, or will when it is settled.
    Next,
    /// Its new version is given up.
    FallBack(String),
    Ended(Option<i32>),
}

struct Launcher {
    root: InstallRoot,
    configuration: Configuration,
    control: Control,
    users: Option<String>,
    /// A collector has run since this launcher started: it was licensed, and no licence stops it any more.
    has_collected: bool,
    manager: Manager,
}

impl Launcher {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut backoff = Backoff::new();
        let mut why = Why::Start;
        loop {
            let waits = match self.settle(&why, SETTLE_FIRST_WITHIN).await {
                Ok(()) => false,
                Err(failure) if failure.exit == Exit::Configuration => return Err(failure),
                Err(failure) => {
                    tracing::warn!(%failure, "an update is not settled yet");
                    true
                }
            };
            if self.control.is_stopping() {
                return Ok(());
            }
            let started = Instant::now();
            why = Why::Start;
            match self.run_version(waits).await? {
                End::Stopped => return Ok(()),
                End::Next if started.elapsed() < BREATH => tokio::time::sleep(BREATH).await,
                End::Next => {}
                End::FallBack(error) => {
                    // What a sick version says is shown, and handed on, only within bounds.
                    let error: String = error.chars().filter(|it| !it.is_control()).take(LONGEST_ERROR).collect();
                    tracing::error!(error, "the new version is taken back");
                    why = Why::TrialFailed(error);
                }
                End::Ended(code) if code == Some(i32::from(Exit::Configuration.code())) => {
                    let what = "the supervisor cannot work with this configuration; its log line above says why";
                    return Err(Failure::configuration(what));
                }
                End::Ended(code) => {
                    let pause = match backoff.exited(Instant::now(), started.elapsed()) {
                        Pause::Short(pause) | Pause::CrashLoop(pause) => pause,
                    };
                    let seconds = pause.as_secs_f64();
                    tracing::error!(code, pause_seconds = seconds, "the supervisor ended and is started again");
                    self.manager.busy_for(pause);
                    tokio::select! {
                        () = self.control.stopped() => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Waits for `watchdog settle`, but neither for ever nor beyond the wish to stop.
    async fn settle(&self, why: &Why, within: Duration) -> Result<(), Failure> {
        let mut settling = Settling::start(&self.root, why)?;
        self.manager.busy_for(within);
        tokio::select! {
            outcome = settling.outcome() => outcome,
            () = self.control.stopped() => {
                settling.stop().await;
                Err(Failure::try_later("stopping"))
            }
            () = tokio::time::sleep(within) => {
                settling.stop().await;
                Err(Failure::try_later("settling an update takes long; the programs that can run meanwhile are started"))
            }
        }
    }

    /// Runs what the boot record names, until it ends or something else is called for. `waits`: an update is not settled,
    /// and is settled beside.
    async fn run_version(&mut self, waits: bool) -> Result<End, Failure> {
        let record = settle::read(&self.root)?;
        let directory = self.root.versions().join(record.running());
        let mut running = match self.start(&record, &directory) {
            Ok(running) => running,
            Err(failure) if self.is_on_trial(&record) => return Ok(End::FallBack(failure.message)),
            Err(failure) if failure.exit == Exit::Configuration => return Err(failure),
            Err(failure) => {
                tracing::error!(%failure, "the supervisor could not be started");
                return Ok(End::Ended(None));
            }
        };
        let end = self.watch(&record, &mut running, waits).await?;
        let grace = match end {
            End::FallBack(_) => GIVE_UP_WITHIN,
            End::Ended(_) => Duration::ZERO,
            End::Stopped | End::Next => STOP_WITHIN,
        };
        self.manager.busy_for(grace);
        running.stop(grace).await;
        // Whatever it has left behind goes too, so that the next one finds its ports free.
        strays::wait_until_gone(&directory).await;
        Ok(end)
    }

    fn start(&self, record: &BootRecord, directory: &Path) -> Result<Supervisor, Failure> {
        let program = directory.join(executable("watchdog"));
        if !program.is_file() {
            let what = format!("{} is missing; the boot record names it", program.display());
            return Err(Failure::configuration(what));
        }
        tracing::debug!(version = record.running(), "starting");
        Supervisor::start(&self.root, &program, &self.configuration, self.users.as_deref(), self.has_collected)
    }

    async fn watch(&mut self, record: &BootRecord, running: &mut Supervisor, waits: bool) -> Result<End, Failure> {
        let version = situation::version_of(record.running())?.to_string();
        // Judged here as well: the new version might find itself without a licence, and run on without its collector.
        let collects = record.phase == Phase::Trial
            && (self.has_collected || license::check(&self.root, &self.configuration.settings()).is_ok());
        let mut trial = Trial::new(self.configuration.settings().update_trial, version, collects, Instant::now());
        let mut settling = None;
        let mut beaten = Instant::now();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        if waits {
            settling = Some(Settling::again(&self.root, Why::Start));
        }
        loop {
            tokio::select! {
                biased;
                () = self.control.stopped() => return Ok(End::Stopped),
                event = running.next() => match event {
                    Event::Ended(code) => return self.ended(record, code),
                    Event::Pulse(pulse) => {
                        beaten = Instant::now();
                        self.manager.up();
                        self.has_collected |= pulse.versions.get("collector").is_some_and(Option::is_some);
                        trial.beat(&pulse, beaten);
                        continue;
                    }
                },
                outcome = settling::next(&mut settling) => {
                    settling = None;
                    match outcome {
                        Ok(()) if waits => return Ok(End::Next),
                        Ok(()) => {}
                        Err(failure) => {
                            tracing::warn!(%failure, "an update is not settled yet");
                            settling = Some(Settling::again(&self.root, if waits { Why::Start } else { Why::TrialPassed }));
                        }
                    }
                }
                _ = ticks.tick() => {}
            }
            self.manager.busy_for(LOOK_EVERY);
            // For the next supervisor, should there be a mistake in the files by then.
            self.configuration.look();
            if self.is_on_trial(record) {
                match trial.judge(Instant::now()) {
                    Verdict::Failed(error) if !is_committing(&self.root) => return Ok(End::FallBack(error)),
                    Verdict::Passed if settling.is_none() => {
                        tracing::info!(version = record.running(), "the new version has proved itself");
                        settling = Some(Settling::now(&self.root, Why::TrialPassed));
                    }
                    Verdict::Open | Verdict::Passed | Verdict::Failed(_) => {}
                }
            } else if beaten.elapsed() > SILENT {
                tracing::error!("the supervisor shows no life and is replaced");
                return Ok(End::Ended(None));
            }
        }
    }

    /// The supervisor has ended by itself: it has made room for an update, or it is ill.
    fn ended(&self, record: &BootRecord, code: Option<i32>) -> Result<End, Failure> {
        if self.is_on_trial(record) && !is_committing(&self.root) {
            let how = code.map_or_else(|| "by a signal".to_owned(), |code| format!("with exit code {code}"));
            return Ok(End::FallBack(format!("the new version's watchdog ended {how}")));
        }
        let next = settle::read(&self.root)?;
        let same = next.phase == Phase::Committed && next.running() == record.running();
        Ok(if same { End::Ended(code) } else { End::Next })
    }

    /// Whether what was started as `record` says is on trial, or on its way to be committed. What runs may have passed its
    /// own trial long ago, and have made room for the next.
    fn is_on_trial(&self, record: &BootRecord) -> bool {
        let number = |record: &BootRecord| record.attempt.as_ref().map(|attempt| attempt.number);
        record.phase == Phase::Trial
            && BootRecord::read(&self.root.boot_record()).is_ok_and(|now| {
                matches!(now.phase, Phase::Trial | Phase::Committing) && number(&now) == number(record)
            })
    }
}

/// From here on there is no way back.
fn is_committing(root: &InstallRoot) -> bool {
    BootRecord::read(&root.boot_record()).is_ok_and(|record| record.phase == Phase::Committing)
}
