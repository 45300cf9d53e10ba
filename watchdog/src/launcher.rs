//! `watchdog run`: the launcher, which no package changes. It locks the root, reads the boot record, starts that version's
//! `watchdog supervise` and starts it again when it ends.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use config::{InstallRoot, Settings};
use daemon::Control;
use durable::{Lock, LockError};
use protocol::control::{FromChild, Role};
use protocol::{Exit, Failure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use updater::boot_record::BootRecord;

use crate::backoff::{Backoff, Pause};
use crate::executable;
use crate::process::{Log, Output, Process};

/// The supervisor stops its children one after the other, ten seconds each at most.
const STOP_WITHIN: Duration = Duration::from_secs(35);

/// Runs until it is told to stop.
///
/// # Errors
/// Another watchdog on this root, no install root, a bad configuration.
pub async fn launch(root: &InstallRoot) -> Result<(), Failure> {
    let settings = Settings::read(root)?;
    daemon::start_logging(&settings);
    let _only = Lock::take(&root.launcher_lock()).map_err(|error| match error {
        LockError::Held(_) => {
            Failure::failed(format!("another watchdog runs on {}; stop it first", root.path().display()))
        }
        LockError::File(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Failure::configuration(format!("{} is no install root; `watchdog init` makes one", root.path().display()))
        }
        LockError::File(error) => error.into(),
    })?;
    let control = Control::start();
    let mut backoff = Backoff::new();
    loop {
        let program = current_supervisor(root)?;
        let started = Instant::now();
        let ended = run_supervisor(&program, root, &control).await?;
        if control.is_stopping() {
            return Ok(());
        }
        if ended == Some(i32::from(Exit::Configuration.code())) {
            return Err(Failure::configuration(
                "the supervisor cannot work with this configuration; its log line above says why",
            ));
        }
        let pause = match backoff.exited(Instant::now(), started.elapsed()) {
            Pause::Short(pause) | Pause::CrashLoop(pause) => pause,
        };
        tracing::error!(code = ended, pause_seconds = pause.as_secs_f64(), "the supervisor ended and is started again");
        tokio::select! {
            () = control.stopped() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn current_supervisor(root: &InstallRoot) -> Result<PathBuf, Failure> {
    let record = BootRecord::read(&root.boot_record())
        .map_err(|error| Failure::configuration(format!("{}: {error}", root.path().display())))?;
    let program = root.versions().join(&record.current).join(executable("watchdog"));
    match program.is_file() {
        true => Ok(program),
        false => Err(Failure::configuration(format!("{} is missing; the boot record names it", program.display()))),
    }
}

/// Its exit code, if it ended by itself.
async fn run_supervisor(
    program: &std::path::Path,
    root: &InstallRoot,
    control: &Control,
) -> Result<Option<i32>, Failure> {
    let folder = root.path().to_string_lossy().into_owned();
    let started = Process::start(program, &["supervise", "--root", &folder], root.path(), &[], Log::Inherited);
    let (mut supervisor, Output { lines, .. }) =
        started.map_err(|error| Failure::failed(format!("could not start {}: {error}", program.display())))?;
    let telling = tokio::spawn(async move {
        let mut lines = BufReader::new(lines).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(FromChild::Listening { role: Role::Service, url }) => println!("{url}"),
                Ok(FromChild::Listening { role: Role::Health, url }) => println!("monitoring {url}"),
                _ => {}
            }
        }
    });
    let status = tokio::select! {
        () = control.stopped() => supervisor.stop(STOP_WITHIN).await,
        status = supervisor.wait() => {
            let status = status.ok();
            // Whatever it left behind goes, so that the next one finds its ports free.
            supervisor.stop(Duration::ZERO).await;
            status
        }
    };
    telling.abort();
    Ok(status.and_then(|status| status.code()))
}
