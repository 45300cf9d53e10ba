//! The acceptor: from gathered to durable. Only what has passed here counts as a reading.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use readings::Reading;
use tokio::sync::{mpsc, oneshot};

use crate::account::Account;
use crate::spool::Spool;
use crate::store::Waker;

/// Gathers that come so close together become one batch: one sync of the disk, one transaction.
const GATHER_WITHIN: Duration = Duration::from_millis(200);
/// A batch is closed when it has so many, whatever the time.
const BATCH_READINGS: usize = 10_000;
/// Gathers that may wait for a slow disk.
const WAITING_GATHERS: usize = 256;

/// Where gathered readings go; waits while the disk is slower than the devices.
#[derive(Clone)]
pub struct Readings(mpsc::Sender<Gather>);

/// What comes by that way, in its order.
enum Gather {
    Readings(Vec<Reading>),
    /// Told when all that came before is accepted, or dropped.
    Mark(oneshot::Sender<()>),
}

/// Whoever took readings in is gone; nothing can be gathered any more.
#[derive(Debug)]
pub struct Gone;

impl Readings {
    /// # Errors
    /// [`Gone`].
    pub async fn send(&self, readings: Vec<Reading>) -> Result<(), Gone> {
        self.0.send(Gather::Readings(readings)).await.map_err(|_| Gone)
    }

    /// Returns when all that was sent before is accepted, or dropped.
    pub async fn settled(&self) {
        let (mark, told) = oneshot::channel();
        if self.0.send(Gather::Mark(mark)).await.is_ok() {
            let _ = told.await;
        }
    }
}

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
        while let Some((batch, mark)) = next_batch(&mut gathers) {
            if !batch.is_empty() {
                accept(batch, &spool, &account);
                storer.wake();
            }
            // Whoever waited for it may have given up.
            mark.map(|mark| mark.send(()));
        }
    });
    (Readings(sender), Acceptor(thread))
}

/// Waits for a gather and takes along what follows closely, up to a mark; `None` when the sources are gone.
fn next_batch(gathers: &mut mpsc::Receiver<Gather>) -> Option<(Vec<Reading>, Option<oneshot::Sender<()>>)> {
    let mut batch = match gathers.blocking_recv()? {
        Gather::Readings(batch) => batch,
        Gather::Mark(mark) => return Some((Vec::new(), Some(mark))),
    };
    std::thread::sleep(GATHER_WITHIN);
    while batch.len() < BATCH_READINGS
        && let Ok(more) = gathers.try_recv()
    {
        match more {
            Gather::Readings(more) => batch.extend(more),
            Gather::Mark(mark) => return Some((batch, Some(mark))),
        }
    }
    Some((batch, None))
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

#[cfg(test)]
pub mod tests {
    use super::*;

    impl Readings {
        /// With nobody who accepts: what was sent, gather by gather, once every sender is gone.
        pub fn unaccepted(at_most: usize) -> (Self, impl Future<Output = Vec<Vec<Reading>>>) {
            let (sender, mut gathers) = mpsc::channel(at_most);
            let all = async move {
                let mut all = Vec::new();
                while let Some(gather) = gathers.recv().await {
                    if let Gather::Readings(readings) = gather {
                        all.push(readings);
                    }
                }
                all
            };
            (Self(sender), all)
        }
    }

    #[test]
    fn a_mark_comes_behind_what_was_sent_before_it() {
        let (sender, mut gathers) = mpsc::channel(10);
        let (mark, _told) = oneshot::channel();
        for gather in [Gather::Readings(Vec::new()), Gather::Mark(mark), Gather::Readings(Vec::new())] {
            sender.try_send(gather).ok().unwrap();
        }
        drop(sender);
        let marked: Vec<bool> =
            std::iter::from_fn(|| next_batch(&mut gathers)).map(|(_, mark)| mark.is_some()).collect();
        assert_eq!(marked, [true, false]);
    }
}
