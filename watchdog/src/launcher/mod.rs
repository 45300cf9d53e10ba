//! `watchdog run`: the launcher, which no package changes. It locks the root, brings whatever was begun to its end, starts
//! the version that the boot record names, watches its trial, and starts again what ends.
//!
//! It decides nothing by itself: the boot record is changed by `watchdog settle`, a process of one thread that does one
//! thing, and what is to be done follows from `updater::recovery`.

mod strays;
mod trial;

use std::path::Path;
use std::time::{Duration, Instant};

use config::{InstallRoot, Settings};
use daemon::Control;
use durable::{Lock, LockError};
use protocol::control::{FromChild, Pulse, Role};
use protocol::{Exit, Failure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use updater::boot_record::{BootRecord, Phase};
use updater::{settle, situation};

use crate::backoff::{Backoff, Pause};
use crate::executable;
use crate::process::{Log, Output, Process};
use trial::{Trial, Verdict};

/// The supervisor stops its children one after the other, ten seconds each at most.
const STOP_WITHIN: Duration = Duration::from_secs(35);
/// A version that is given up has had its chance; the old one waits.
const GIVE_UP_WITHIN: Duration = Duration::from_secs(3);
/// A supervisor that has shown no life for so long hangs.
const SILENT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How soon a database that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Runs until it is told to stop.
///
/// # Errors
/// Another watchdog on this root, no install root, a bad configuration.
pub async fn launch(root: &InstallRoot) -> Result<(), Failure> {
    let settings = Settings::read(root)?;
    daemon::start_logging(&settings);
    let _only = only_watchdog(root)?;
    let launcher = Launcher { root: root.clone(), settings, control: Control::start() };
    let mut backoff = Backoff::new();
    loop {
        let settled = launcher.settle(&["start"]).await;
        if launcher.control.is_stopping() {
            return Ok(());
        }
        let waits = match settled {
            Ok(()) => false,
            Err(failure) if failure.exit == Exit::TryLater => true,
            Err(failure) => return Err(failure),
        };
        let started = Instant::now();
        match launcher.run_version(waits).await? {
            End::Stopped => return Ok(()),
            End::Next => continue,
            End::Ended(code) => {
                if code == Some(i32::from(Exit::Configuration.code())) {
                    let what = "the supervisor cannot work with this configuration; its log line above says why";
                    return Err(Failure::configuration(what));
                }
                let pause = match backoff.exited(Instant::now(), started.elapsed()) {
                    Pause::Short(pause) | Pause::CrashLoop(pause) => pause,
                };
                let seconds = pause.as_secs_f64();
                tracing::error!(code, pause_seconds = seconds, "the supervisor ended and is started again");
                tokio::select! {
                    () = launcher.control.stopped() => return Ok(()),
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

fn only_watchdog(root: &InstallRoot) -> Result<Lock, Failure> {
    Lock::take(&root.launcher_lock()).map_err(|error| match error {
        LockError::Held(_) => {
            Failure::failed(format!("another watchdog runs on {}; stop it first", root.path().display()))
        }
        LockError::File(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Failure::configuration(format!("{} is no install root; `watchdog init` makes one", root.path().display()))
        }
        LockError::File(error) => error.into(),
    })
}

/// How a run of a version came to its end.
enum End {
    /// The launcher was told to stop.
    Stopped,
    /// The boot record calls for something else than what ran.
    Next,
    Ended(Option<i32>),
}

struct Launcher {
    root: InstallRoot,
    settings: Settings,
    control: Control,
}

impl Launcher {
    /// Runs `watchdog settle` unless the boot record says that nothing is under way.
    async fn settle(&self, cause: &[&str]) -> Result<(), Failure> {
        if settle::read(&self.root)?.phase == Phase::Committed {
            return Ok(());
        }
        let program = std::env::current_exe().map_err(|error| Failure::failed(format!("own program: {error}")))?;
        let folder = self.root.path().to_string_lossy().into_owned();
        let arguments = [&["settle", "--root", &folder, "--cause"], cause].concat();
        let not_started = |error| Failure::failed(format!("could not start {}: {error}", program.display()));
        let (mut process, _output) =
            Process::start(&program, &arguments, self.root.path(), &[], Log::Inherited).map_err(not_started)?;
        let status = process.wait().await.map_err(not_started)?;
        match status.code() {
            Some(0) => Ok(()),
            Some(code) if code == i32::from(Exit::TryLater.code()) => {
                Err(Failure::try_later("an update cannot be settled yet; the line above says why"))
            }
            Some(code) if code == i32::from(Exit::Configuration.code()) => {
                Err(Failure::configuration("an update cannot be settled; the line above says why"))
            }
            // Killed, or a disk that fails: what it was about is still to be done, and the old version can run meanwhile.
            code => Err(Failure::try_later(format!("settling an update ended with {code:?}"))),
        }
    }

    /// Runs what the boot record names, until it ends or something else is called for. `waits`: an update could not be
    /// settled, and is tried again meanwhile.
    async fn run_version(&self, waits: bool) -> Result<End, Failure> {
        let record = settle::read(&self.root)?;
        let directory = self.root.versions().join(record.running());
        let program = directory.join(executable("watchdog"));
        if !program.is_file() {
            if record.phase == Phase::Trial {
                let error = format!("{} is missing", program.display());
                return self.fall_back(&directory, error).await;
            }
            return Err(Failure::configuration(format!("{} is missing; the boot record names it", program.display())));
        }
        let mut running = Supervisor::start(&self.root, &program)?;
        let mut trial = Trial::new(self.settings.update_trial, expected_version(&record)?, Instant::now());
        let mut beaten = Instant::now();
        let mut asked = Instant::now();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = self.control.stopped() => {
                    running.stop(STOP_WITHIN, &directory).await;
                    return Ok(End::Stopped);
                }
                event = running.next() => match event {
                    Event::Pulse(pulse) => {
                        beaten = Instant::now();
                        trial.beat(&pulse, beaten);
                    }
                    Event::Ended(code) => {
                    running.stop(Duration::ZERO, &directory).await;
                    if self.is_on_trial(&record) {
                        let code = code.map_or_else(|| "by a signal".to_owned(), |code| format!("with exit code {code}"));
                        return self.fall_back(&directory, format!("the new version's watchdog ended {code}")).await;
                    }
                    // It has made room for an update, or for what is to be taken back.
                    let next = settle::read(&self.root)?;
                    let same = next.phase == Phase::Committed && next.running() == record.running();
                    return Ok(if same { End::Ended(code) } else { End::Next });
                    }
                },
                _ = ticks.tick() => {}
            }
            if self.is_on_trial(&record) {
                match trial.judge(Instant::now()) {
                    Verdict::Open => {}
                    Verdict::Failed(error) => {
                        running.stop(GIVE_UP_WITHIN, &directory).await;
                        return self.fall_back(&directory, error).await;
                    }
                    Verdict::Passed => {
                        tracing::info!(version = record.running(), "the new version has proved itself");
                        // What is not written yet is tried again at the next look.
                        if let Err(failure) = self.settle(&["passed"]).await {
                            tracing::error!(%failure, "the new version cannot be committed yet");
                            tokio::time::sleep(ASK_AGAIN).await;
                        }
                    }
                }
            } else if beaten.elapsed() > SILENT {
                tracing::error!("the supervisor shows no life and is replaced");
                running.stop(Duration::ZERO, &directory).await;
                return Ok(End::Ended(None));
            }
            if waits && asked.elapsed() > ASK_AGAIN {
                if self.settle(&["start"]).await.is_ok() {
                    running.stop(STOP_WITHIN, &directory).await;
                    return Ok(End::Next);
                }
                asked = Instant::now();
            }
        }
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

    async fn fall_back(&self, directory: &Path, error: String) -> Result<End, Failure> {
        tracing::error!(error, "the new version is taken back");
        strays::kill_all_of(directory);
        match self.settle(&["failed", "--error", &error]).await {
            Err(failure) if failure.exit == Exit::TryLater => {
                tracing::warn!(%failure, "the fallback is not complete yet");
                Ok(End::Next)
            }
            outcome => outcome.map(|()| End::Next),
        }
    }
}

fn expected_version(record: &BootRecord) -> Result<String, Failure> {
    situation::version_of(record.running()).map(|version| version.to_string())
}

/// What a supervisor shows.
enum Event {
    Pulse(Pulse),
    /// It has ended by itself, with this exit code if it was not by a signal.
    Ended(Option<i32>),
}

/// A running `watchdog supervise`.
struct Supervisor {
    process: Process,
    pulses: mpsc::Receiver<Pulse>,
}

impl Supervisor {
    fn start(root: &InstallRoot, program: &Path) -> Result<Self, Failure> {
        let folder = root.path().to_string_lossy().into_owned();
        let started = Process::start(program, &["supervise", "--root", &folder], root.path(), &[], Log::Inherited);
        let (process, Output { lines, .. }) =
            started.map_err(|error| Failure::failed(format!("could not start {}: {error}", program.display())))?;
        let (sender, pulses) = mpsc::channel(16);
        tokio::spawn(listen(lines, sender));
        Ok(Self { process, pulses })
    }

    /// What it shows next.
    async fn next(&mut self) -> Event {
        tokio::select! {
            status = self.process.wait() => Event::Ended(status.ok().and_then(|status| status.code())),
            Some(pulse) = self.pulses.recv() => Event::Pulse(pulse),
        }
    }

    /// Also what it has left behind goes, so that the next one finds its ports free.
    async fn stop(&mut self, grace: Duration, directory: &Path) {
        self.process.stop(grace).await;
        strays::wait_until_gone(directory).await;
    }
}

/// Shows addresses to people, and hands on the pulse.
async fn listen(lines: ChildStdout, pulses: mpsc::Sender<Pulse>) {
    let mut lines = BufReader::new(lines).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(FromChild::Listening { role: Role::Service, url }) => println!("{url}"),
            Ok(FromChild::Listening { role: Role::Health, url }) => println!("monitoring {url}"),
            Ok(FromChild::Pulse(pulse)) => {
                // A launcher that is busy settling hears the next one.
                let _ = pulses.try_send(pulse);
            }
            _ => {}
        }
    }
}
