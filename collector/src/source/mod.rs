//! Where readings come from. Each source runs as a task of its own, so that a slow one delays no other.

mod simulator;

use std::sync::Arc;
use std::time::Duration;

use config::Sources;
use readings::Reading;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::account::Account;

pub use simulator::Simulator;

/// Where gathered readings go; waits while the disk is slower than the devices.
pub type Readings = mpsc::Sender<Vec<Reading>>;

/// All sources at work.
pub struct Polling {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Polling {
    /// Ends polling; what was gathered is on its way.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

pub fn start(sources: &Sources, readings: &Readings, account: &Arc<Account>) -> Polling {
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for source in &sources.simulators {
        let simulator = Simulator::new(source);
        tasks.spawn(poll(simulator, source.period, readings.clone(), account.clone(), stopped.clone()));
    }
    Polling { tasks, stop }
}

/// On the monotonic clock: a jump of the wall clock neither bunches nor skips polls, and a poll that took too long is
/// followed by the next one on the old beat.
async fn poll(
    mut source: Simulator,
    period: Duration,
    readings: Readings,
    account: Arc<Account>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut beat = tokio::time::interval(period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = beat.tick() => {}
        }
        let gathered = source.gather();
        account.gathered(source.name(), &gathered, None);
        if readings.send(gathered).await.is_err() {
            return;
        }
    }
}
