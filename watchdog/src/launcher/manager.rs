//! What the service manager is told: that the plant is up, that the launcher lives, that it stops. Without one, nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tells systemd (sd_notify(3)).
pub struct Manager {
    /// Until then the launcher will have shown another sign of life, or it hangs.
    due: Arc<Mutex<Instant>>,
    is_up: bool,
}

/// Beyond what a step is known to take.
const SLACK: Duration = Duration::from_secs(30);

impl Manager {
    /// Starts telling it that the launcher lives, as often as it wants to hear that.
    pub fn start() -> Self {
        let due = Arc::new(Mutex::new(Instant::now() + SLACK));
        if let Some(every) = wanted_every() {
            tokio::spawn(keep_alive(due.clone(), every / 3));
        }
        Self { due, is_up: false }
    }

    /// What comes next takes no longer than this.
    pub fn busy_for(&self, longest: Duration) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + longest + SLACK;
    }

    /// The plant is up, or as far up as it can be.
    pub fn up(&mut self) {
        if !std::mem::replace(&mut self.is_up, true) {
            tell("READY=1");
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        tell("STOPPING=1");
    }
}

async fn keep_alive(due: Arc<Mutex<Instant>>, every: Duration) {
    let mut beat = tokio::time::interval(every);
    loop {
        beat.tick().await;
        if Instant::now() < *due.lock().unwrap_or_else(PoisonError::into_inner) {
            tell("WATCHDOG=1");
        }
    }
}

/// Set by systemd, in microseconds.
fn wanted_every() -> Option<Duration> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(micros)).filter(|every| !every.is_zero())
}

#[cfg(target_os = "linux")]
fn tell(state: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Ok(place) = std::env::var("NOTIFY_SOCKET") else { return };
    let address = match place.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&place),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = told {
        tracing::warn!(%error, state, "the service manager could not be told");
    }
}

#[cfg(not(target_os = "linux"))]
fn tell(_: &str) {}
