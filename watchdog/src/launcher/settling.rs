//! `watchdog settle`, running: the launcher looks after everything else meanwhile.

use std::future::pending;
use std::time::Duration;

use config::InstallRoot;
use protocol::{Exit, Failure};

use super::{SETTLE_AGAIN, SETTLE_WITHIN};
use crate::process::{Log, Process};

/// What it is to settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Whatever was begun.
    Start,
    TrialPassed,
    TrialFailed(String),
}

/// The process that does it.
pub struct Settling(Process);

impl Settling {
    pub fn start(root: &InstallRoot, why: &Why) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::failed(format!("own program: {error}")))?;
        let folder = root.path().to_string_lossy().into_owned();
        let mut arguments = vec!["settle", "--root", &folder, "--cause"];
        match why {
            Why::Start => arguments.push("start"),
            Why::TrialPassed => arguments.push("passed"),
            Why::TrialFailed(error) => arguments.extend(["failed", "--error", error]),
        }
        let started = Process::start(&program, &arguments, root.path(), &[], Log::Inherited);
        let (process, _output) =
            started.map_err(|error| Failure::failed(format!("could not start {}: {error}", program.display())))?;
        Ok(Self(process))
    }

    /// At once, within the time that there is beside a running collector.
    pub fn now(root: &InstallRoot, why: Why) -> Beside {
        beside(root.clone(), why, Duration::ZERO)
    }

    /// As [`Self::now`], after a pause.
    pub fn again(root: &InstallRoot, why: Why) -> Beside {
        beside(root.clone(), why, SETTLE_AGAIN)
    }

    pub async fn outcome(&mut self) -> Result<(), Failure> {
        let status = self.0.wait().await.map_err(|error| Failure::failed(error.to_string()))?;
        match status.code() {
            Some(0) => Ok(()),
            Some(code) if code == i32::from(Exit::Configuration.code()) => {
                Err(Failure::configuration("an update cannot be settled; the line above says why"))
            }
            code => Err(Failure::try_later(format!("`watchdog settle` ended with {code:?}; the line above says why"))),
        }
    }

    pub async fn stop(&mut self) {
        self.0.stop(Duration::ZERO).await;
    }
}

/// A settling that is waited for beside everything else. Dropped, it is killed, and done again by the next.
pub type Beside = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

fn beside(root: InstallRoot, why: Why, pause: Duration) -> Beside {
    Box::pin(async move {
        tokio::time::sleep(pause).await;
        let mut settling = Settling::start(&root, &why)?;
        let outcome = tokio::time::timeout(SETTLE_WITHIN, settling.outcome()).await;
        match outcome {
            Ok(outcome) => outcome,
            Err(_) => {
                settling.stop().await;
                Err(Failure::try_later("settling an update took too long"))
            }
        }
    })
}

/// The outcome of what is being settled; never, while nothing is.
pub async fn next(settling: &mut Option<Beside>) -> Result<(), Failure> {
    match settling {
        Some(settling) => settling.await,
        None => pending().await,
    }
}
