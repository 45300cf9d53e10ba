//! The acceptor: from gathered to durable. Only what has passed here counts as a reading.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use readings::Reading;
use tokio::sync::mpsc;

use crate::account::Account;
use crate::source::Readings;
use crate::spool::Spool;
use crate::store::Waker;

/// Gathers that come so close together become one batch: one sync of the disk, one transaction.
const GATHER_WITHIN: Duration = Duration::from_millis(200);
/// A batch is closed when it has so many, whatever the time.
const BATCH_READINGS: usize = 10_000;
/// Gathers that may wait for a slow disk.
const WAITING_GATHERS: usize = 256;

pub struct Acceptor(JoinHandle<()>);

impl Acceptor {
    /// Waits until everything gathered is in the spool. All senders have to be gone.
    pub fn finish(self) {
        let _ = self.0.join();
    }
}

pub fn start(spool: Arc<Mutex<Spool>>, account: Arc<Account>, storer: Waker) -> (Readings, Acceptor) {
    let (sender, mut gathers) = mpsc::channel(WAITING_GATHERS);
    let thread = std::thread::spawn(move || {
        while let Some(batch) = next_batch(&mut gathers) {
            accept(batch, &spool, &account);
            storer.wake();
        }
    });
    (sender, Acceptor(thread))
}

/// Waits for a gather and takes along what follows closely; `None` when the sources are gone.
fn next_batch(gathers: &mut mpsc::Receiver<Vec<Reading>>) -> Option<Vec<Reading>> {
    let mut batch = gathers.blocking_recv()?;
    std::thread::sleep(GATHER_WITHIN);
    while batch.len() < BATCH_READINGS
        && let Ok(more) = gathers.try_recv()
    {
        batch.extend(more);
    }
    Some(batch)
}

fn accept(batch: Vec<Reading>, spool: &Mutex<Spool>, account: &Account) {
    let outcome = spool.lock().unwrap_or_else(PoisonError::into_inner).append(&batch);
    match outcome {
        Ok(()) => account.accepted(batch),
        Err(error) => {
            account.dropped(error.reason(), batch.len() as u64);
            tracing::error!(%error, readings = batch.len(), "readings could not be accepted");
        }
    }
}
