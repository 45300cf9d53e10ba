use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::control::{Answer, FromChild, PlantStatus, Question, Role, ToChild};
use tokio::sync::{oneshot, watch};

/// Set by the supervisor in the environment of its children: their standard input and output belong to it.
pub const SUPERVISED: &str = "PLANTLINK_SUPERVISED";
/// Set by the supervisor as well: phase and number of attempt (`trial/3`) at the child's start, until the first status
/// tells them.
pub const PHASE: &str = "PLANTLINK_PHASE";
/// Phases of an update in which nothing enters the store and nothing new is exported: what the database says may yet be
/// taken back.
const FROZEN_PHASES: [&str; 4] = ["migrating", "trial", "committing", "falling_back"];

/// The line to the supervisor, and the wish to stop.
pub struct Control {
    supervised: bool,
    output: Mutex<std::io::Stdout>,
    status: watch::Receiver<Option<Box<PlantStatus>>>,
    asked: Arc<Asked>,
    stop: watch::Sender<bool>,
}

/// Questions that the supervisor has not answered yet.
#[derive(Default)]
struct Asked {
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

/// Verifying a large package is what takes longest.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

impl Control {
    /// Listens to signals and, if there is a supervisor, to standard input. Inside a runtime.
    pub fn start() -> Self {
        let supervised = std::env::var_os(SUPERVISED).is_some();
        let (status_sender, status) = watch::channel(None);
        let (stop, _) = watch::channel(false);
        let asked = Arc::new(Asked::default());
        if supervised {
            let (stop, asked) = (stop.clone(), asked.clone());
            std::thread::spawn(move || {
                listen(&status_sender, &asked);
                tracing::info!("stopping: the watchdog asks for it, or is gone");
                stop.send_replace(true);
            });
        }
        tokio::spawn(stop_at_signal(stop.clone()));
        Self { supervised, output: Mutex::new(std::io::stdout()), status, asked, stop }
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
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        // A supervisor that is gone is noticed at standard input.
        let _ = output.write_all(&line).and_then(|()| output.flush());
    }

    pub fn is_supervised(&self) -> bool {
        self.supervised
    }

    /// Asks the supervisor; `None` without one, or if it does not answer in time.
    pub async fn ask(&self, question: Question) -> Option<Answer> {
        if !self.supervised {
            return None;
        }
        let request = self.asked.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        self.asked.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(request, sender);
        self.say(&FromChild::Ask { request, question });
        let answered = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        self.asked.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&request);
        answered.ok()?.ok()
    }

    /// The attempt at an update that is between the last reading stored by the old version and the first by the new one.
    pub fn frozen_for(&self) -> Option<u64> {
        let told = self.status.borrow().as_ref().map(|status| (status.phase.clone(), status.attempt));
        let (phase, attempt) = told.or_else(|| self.phase_at_start())?;
        FROZEN_PHASES.contains(&phase.as_str()).then_some(attempt)
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen_for().is_some()
    }

    /// Whether this version has not proved itself yet.
    pub fn is_on_trial(&self) -> bool {
        self.phase_at_start().is_some_and(|(phase, _)| phase == "trial")
    }

    fn phase_at_start(&self) -> Option<(String, u64)> {
        let text = std::env::var(PHASE).ok().filter(|_| self.supervised)?;
        let (phase, attempt) = text.split_once('/')?;
        Some((phase.to_owned(), attempt.parse().ok()?))
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
fn listen(status: &watch::Sender<Option<Box<PlantStatus>>>, asked: &Asked) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        match serde_json::from_str(&line) {
            Ok(ToChild::Status(new)) => {
                status.send_replace(Some(new));
            }
            Ok(ToChild::Answer { request, answer }) => {
                let waiting = asked.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&request);
                if let Some(waiting) = waiting {
                    // Whoever asked may have given up.
                    let _ = waiting.send(answer);
                }
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
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
        let (Ok(mut brk), Ok(mut c)) = (ctrl_break(), ctrl_c()) else { return };
        // A console window that is closed, or a machine that goes down, leaves five seconds.
        let (Ok(mut close), Ok(mut shutdown)) = (ctrl_close(), ctrl_shutdown()) else { return };
        tokio::select! {
            _ = brk.recv() => {}
            _ = c.recv() => {}
            _ = close.recv() => {}
            _ = shutdown.recv() => {}
        }
    }
    stop.send_replace(true);
}
