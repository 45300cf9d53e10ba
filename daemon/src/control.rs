use std::io::{BufRead as _, Write as _};
use std::sync::Mutex;

use protocol::control::{FromChild, PlantStatus, Role, ToChild};
use tokio::sync::watch;

/// Set by the supervisor in the environment of its children: their standard input and output belong to it.
pub const SUPERVISED: &str = "PLANTLINK_SUPERVISED";

/// The line to the supervisor, and the wish to stop.
pub struct Control {
    supervised: bool,
    output: Mutex<std::io::Stdout>,
    status: watch::Receiver<Option<Box<PlantStatus>>>,
    stop: watch::Sender<bool>,
}

impl Control {
    /// Listens to signals and, if there is a supervisor, to standard input. Inside a runtime.
    pub fn start() -> Self {
        let supervised = std::env::var_os(SUPERVISED).is_some();
        let (status_sender, status) = watch::channel(None);
        let (stop, _) = watch::channel(false);
        if supervised {
            let stop = stop.clone();
            std::thread::spawn(move || {
                listen(&status_sender);
                tracing::info!("standard input has closed; stopping");
                stop.send_replace(true);
            });
        }
        tokio::spawn(stop_at_signal(stop.clone()));
        Self { supervised, output: Mutex::new(std::io::stdout()), status, stop }
    }

    /// Says where something listens: to the supervisor as a line of its own, to people in the log.
    pub fn listening(&self, role: Role, url: &str) {
        tracing::info!(address = %url, "listening");
        if self.supervised {
            self.say(&FromChild::Listening { role, url: url.to_owned() });
        } else if role == Role::Service {
            println!("listening at {url}");
        }
    }

    /// A line to the supervisor; without one, nothing.
    pub fn say(&self, line: &FromChild) {
        if !self.supervised {
            return;
        }
        let mut line = serde_json::to_vec(line).expect("control lines serialise");
        line.push(b'\n');
        let mut output = self.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A supervisor that is gone is noticed at standard input.
        let _ = output.write_all(&line).and_then(|()| output.flush());
    }

    /// What the supervisor last said of the whole plant PC; `None` without one.
    pub fn plant_status(&self) -> Option<PlantStatus> {
        self.status.borrow().as_deref().cloned()
    }

    /// Changes whenever the supervisor says something new.
    pub fn watch_plant_status(&self) -> watch::Receiver<Option<Box<PlantStatus>>> {
        self.status.clone()
    }

    /// Returns once the process should stop; from then on at once.
    pub async fn stopped(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Whether the process should stop.
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Makes the process stop as a signal would.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Until standard input closes. Lines of a newer supervisor that are not understood are passed over.
fn listen(status: &watch::Sender<Option<Box<PlantStatus>>>) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        match serde_json::from_str(&line) {
            Ok(ToChild::Status(new)) => {
                status.send_replace(Some(new));
            }
            Err(error) => tracing::debug!(%error, "a line from the supervisor was not understood"),
        }
    }
}

async fn stop_at_signal(stop: watch::Sender<bool>) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::error!("no signal handlers to be had; this process only stops with its supervisor");
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    #[cfg(windows)]
    {
        use tokio::signal::windows::{ctrl_break, ctrl_c};
        let (Ok(mut brk), Ok(mut c)) = (ctrl_break(), ctrl_c()) else { return };
        tokio::select! {
            _ = brk.recv() => {}
            _ = c.recv() => {}
        }
    }
    stop.send_replace(true);
}
