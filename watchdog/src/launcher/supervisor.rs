use std::path::Path;
use std::time::Duration;

use config::{InstallRoot, Settings};
use protocol::Failure;
use protocol::control::{FromChild, Pulse, Role};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;

use super::strays::VERSION_DIRECTORY;
use crate::configuration::Configuration;
use crate::process::{ControlLines, Log, Output, Process};
use crate::supervise::{CHILD_USERS, HAS_COLLECTED};

/// A running `watchdog supervise`.
pub struct Supervisor {
    process: Process,
    pulses: mpsc::Receiver<Pulse>,
}

/// What a supervisor shows.
pub enum Event {
    Pulse(Pulse),
    /// It has ended by itself, with this exit code if it was not by a signal.
    Ended(Option<i32>),
}

impl Supervisor {
    pub fn start(
        root: &InstallRoot,
        program: &Path,
        configuration: &Configuration,
        users: Option<&str>,
        has_collected: bool,
    ) -> Result<Self, Failure> {
        let folder = root.path().to_string_lossy().into_owned();
        let directory = program.parent().unwrap_or(root.path()).to_string_lossy().into_owned();
        let (config_text, database_url) = (configuration.text(), configuration.database_url());
        let mut environment = vec![(VERSION_DIRECTORY, directory.as_str()), (Settings::HANDED_ON, &*config_text)];
        environment.extend(database_url.iter().map(|url| (Configuration::DATABASE_HANDED_ON, &**url)));
        if has_collected {
            environment.push((HAS_COLLECTED, "1"));
        }
        environment.extend(users.map(|users| (CHILD_USERS, users)));
        let arguments = ["supervise", "--root", &folder];
        let started = Process::start(program, &arguments, root.path(), &environment, Log::Inherited);
        let (process, Output { lines, .. }) =
            started.map_err(|error| Failure::failed(format!("could not start {}: {error}", program.display())))?;
        let (sender, pulses) = mpsc::channel(16);
        tokio::spawn(listen(lines, sender));
        Ok(Self { process, pulses })
    }

    /// What it shows next.
    pub async fn next(&mut self) -> Event {
        tokio::select! {
            status = self.process.wait() => Event::Ended(status.ok().and_then(|status| status.code())),
            Some(pulse) = self.pulses.recv() => Event::Pulse(pulse),
        }
    }

    pub async fn stop(&mut self, grace: Duration) {
        self.process.stop(grace).await;
    }
}

/// Shows addresses to people, and hands on the pulse.
async fn listen(lines: ChildStdout, pulses: mpsc::Sender<Pulse>) {
    let mut lines = ControlLines::new(lines);
    while let Some(line) = lines.next().await {
        match serde_json::from_slice(&line) {
            Ok(FromChild::Listening { role: Role::Service, url }) => println!("{url}"),
            Ok(FromChild::Listening { role: Role::Health, url }) => println!("monitoring {url}"),
            Ok(FromChild::Pulse(pulse)) => {
                // Of a launcher that is busy, the next one will do.
                let _ = pulses.try_send(pulse);
            }
            _ => {}
        }
    }
}
