//! The storer: from the spool into the database, in order, each batch exactly once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::InstallRoot;
use daemon::Control;
use protocol::Failure;
use readings::{Appended, Batch, Store, StoreError};
use serde::Deserialize;
use updater::database::ActiveDatabase;

use crate::WRITER;
use crate::account::Account;
use crate::pause::Pause;
use crate::retention::Retention;
use crate::set_aside::{Separated, SetAside};
use crate::spool::{Known, Spool, Taken};

/// After an outage, small batches are stored together up to this size.
const READINGS_AT_ONCE: usize = 10_000;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LOOK_FOR_REQUESTS_EVERY: Duration = Duration::from_secs(1);
/// So that others who write get their turn.
const BETWEEN_RETIREMENTS: Duration = Duration::from_millis(50);
const ROLLED_UP_AFTER: Duration = Duration::from_secs(10);
/// Whether there are more readings that are not rolled up than a batch can take along.
const LOOK_BEHIND_EVERY: Duration = Duration::from_secs(60);
/// At a stop, the store is given so long to take the rest; what it does not take waits in the spool.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

pub struct Storer {
    thread: JoinHandle<Result<(), Failure>>,
    waker: Waker,
    stopping: Arc<AtomicBool>,
}

/// Tells the storer that the spool has something.
#[derive(Clone)]
pub struct Waker(SyncSender<()>);

impl Waker {
    pub fn wake(&self) {
        // A wake-up that is waiting already is enough.
        if let Err(TrySendError::Disconnected(())) = self.0.try_send(()) {
            tracing::error!("the storer is gone; readings stay in the spool");
        }
    }
}

impl Storer {
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What made it give up, if something did.
    pub fn finish(self) -> Result<(), Failure> {
        self.stopping.store(true, Ordering::Release);
        // One that has given up is woken no more.
        let _ = self.waker.0.try_send(());
        self.thread.join().unwrap_or_else(|_| Err(Failure::failed("the storer panicked; readings are in the spool")))
    }
}

pub fn start(
    root: InstallRoot,
    database: ActiveDatabase,
    spool: Arc<Mutex<Spool>>,
    account: Arc<Account>,
    control: Arc<Control>,
    retention: Option<Retention>,
) -> Storer {
    let (waker, wakes) = sync_channel(1);
    let stopping = Arc::new(AtomicBool::new(false));
    let work = Work {
        database,
        spool,
        account,
        control,
        wakes,
        stopping: stopping.clone(),
        retention,
        set_aside: SetAside::of(&root),
        root,
        connection: None,
        pause: Pause::new(LONGEST_PAUSE),
        holding: None,
        finish_by: None,
        stored_at: None,
        rolled_up_at: Instant::now(),
    };
    Storer { thread: std::thread::spawn(move || work.run()), waker: Waker(waker), stopping }
}

struct Work {
    root: InstallRoot,
    database: ActiveDatabase,
    spool: Arc<Mutex<Spool>>,
    account: Arc<Account>,
    control: Arc<Control>,
    wakes: Receiver<()>,
    stopping: Arc<AtomicBool>,
    retention: Option<Retention>,
    set_aside: SetAside,
    connection: Option<Connection>,
    pause: Pause,
    /// The attempt at an update for which it keeps away from the store.
    holding: Option<u64>,
    finish_by: Option<Instant>,
    /// When something was stored last that may not be rolled up yet.
    stored_at: Option<Instant>,
    rolled_up_at: Instant,
}

/// A connection whose database was compared with what the spool knows.
struct Connection {
    store: Box<dyn Store>,
    epoch: String,
    /// The writer's position that the database is known to be at.
    position: u64,
}

/// `state/agent/epoch_request.json`: the agent was shown a cursor beyond everything that it ever told.
#[derive(Deserialize)]
struct EpochRequest {
    epoch: String,
    first_seq: u64,
}

impl Work {
    fn run(mut self) -> Result<(), Failure> {
        self.account.set_aside(self.set_aside.readings());
        loop {
            // Taken back before anything is stored.
            if !self.control.is_frozen() {
                self.holds(None);
            }
            let outcome = self.store_all().and_then(|()| self.roll_up()).map(|more| self.retire() || more);
            if self.set_aside.has_become_less() {
                self.account.set_aside(self.set_aside.readings());
            }
            // Said only after the connection is closed: from here on the database may be copied.
            self.holds(self.control.frozen_for().filter(|_| self.connection.is_none()));
            let wait = match &outcome {
                Err(StoreError::Schema(_)) => {
                    // Of another version: nothing of this one may touch it.
                    self.control.stop();
                    return outcome.map(drop).map_err(Failure::from);
                }
                Ok(more) => {
                    self.pause.reset();
                    if *more { BETWEEN_RETIREMENTS } else { LOOK_FOR_REQUESTS_EVERY }
                }
                Err(error) => {
                    // Whatever failed, the connection's state is unknown: the next one starts by asking.
                    self.connection = None;
                    tracing::warn!(%error, "the store takes nothing; readings are kept in the spool");
                    self.pause.next()
                }
            };
            self.account.store_error(outcome.err().map(|error| error.to_string()));
            if self.is_finished() {
                break;
            }
            self.wait(wait);
        }
        // So that the next start knows what the database has, without replaying.
        if let Err(error) = self.lock().note() {
            tracing::warn!(%error, "could not note the position at the end");
        }
        Ok(())
    }

    fn holds(&mut self, attempt: Option<u64>) {
        self.holding = attempt;
        self.account.holding(attempt);
    }

    /// Until the spool is empty, or an update wants the database to stay as it is.
    fn store_all(&mut self) -> Result<(), StoreError> {
        if self.control.is_frozen() {
            self.connection = None;
            return Ok(());
        }
        if self.connection.is_none() {
            let connection = self.connect()?;
            self.connection = Some(connection);
            tracing::info!(database = %readings::shown_url(&self.database.url), "storing");
        }
        self.follow_request()?;
        loop {
            let Some(connection) = &mut self.connection else { return Ok(()) };
            let next = self
                .spool
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .read_after(connection.position, READINGS_AT_ONCE);
            let batch = next.map_err(|error| StoreError::Disk(error.to_string()))?;
            let damaged = self.spool.lock().unwrap_or_else(PoisonError::into_inner).take_damaged();
            if damaged > 0 {
                self.account.dropped("spool_damaged", damaged);
            }
            let Some(Taken { position, readings, gaps }) = batch else { return Ok(()) };
            let from = connection.position;
            let batch = Batch { writer: WRITER, from, to: position, readings: &readings, gaps: &gaps };
            let appended = match connection.store.append(&batch) {
                Err(refusal @ StoreError::Value(_)) => {
                    let Separated { readings, gaps } =
                        self.set_aside.separate(connection.store.as_mut(), &batch, refusal)?;
                    self.account.set_aside(self.set_aside.readings());
                    connection.store.append(&Batch { readings: &readings, gaps: &gaps, ..batch })
                }
                appended => appended,
            };
            if appended? == Appended::AlreadyStored {
                tracing::info!(position, "a batch was stored already");
            }
            connection.position = position;
            self.stored_at = Some(Instant::now());
            // A store that takes something is not one to keep away from, however often it fails.
            self.pause.reset();
            let known = Known { epoch: connection.epoch.clone(), position };
            self.lock().acknowledge(known).map_err(|error| StoreError::Disk(error.to_string()))?;
            self.account.store_error(None);
            if self.is_overdue() {
                return Ok(());
            }
            if self.control.is_frozen() {
                self.connection = None;
                return Ok(());
            }
        }
    }

    /// Batches are rolled up on their way in, but for the last ones before a rest, and for many at once; says whether there is more to do.
    fn roll_up(&mut self) -> Result<bool, StoreError> {
        let (Some(connection), Some(stored_at)) = (&mut self.connection, self.stored_at) else { return Ok(false) };
        let rests = stored_at.elapsed() >= ROLLED_UP_AFTER;
        let looks = self.rolled_up_at.elapsed() >= LOOK_BEHIND_EVERY;
        if self.stopping.load(Ordering::Acquire) || !(rests || looks) {
            return Ok(false);
        }
        let more = connection.store.roll_up()?;
        if !more {
            self.rolled_up_at = Instant::now();
            self.stored_at = None;
        }
        Ok(more)
    }

    /// After all batches, drops some readings that have had their time; says whether there are more.
    fn retire(&mut self) -> bool {
        let (Some(connection), Some(retention)) = (&mut self.connection, &mut self.retention) else { return false };
        if self.stopping.load(Ordering::Acquire) {
            return false;
        }
        let exported = self.control.plant_status().and_then(|status| status.exported).unwrap_or_default();
        retention.work(connection.store.as_mut(), &exported).unwrap_or_else(|error| {
            // Storing goes on; if the store is gone, the next batch finds out.
            tracing::warn!(%error, "old readings could not be dropped");
            retention.rest();
            false
        })
    }

    /// Compares the database with what the spool knows of it, and begins a new epoch if it is another one, or behind.
    fn connect(&mut self) -> Result<Connection, StoreError> {
        let mut store = self.database.open(self.root.path())?;
        let mut head = store.head()?;
        let mut position = store.position(WRITER)?;
        let (known, last) = {
            let spool = self.lock();
            (spool.known().cloned(), spool.last_position())
        };
        let reason = match &known {
            None if position == 0 => None,
            None => Some("this collector has no record of it"),
            Some(known) if known.epoch != head.epoch() => Some("it is another database, or was replaced"),
            Some(known) if position < known.position => Some("it has lost what it had confirmed; was it restored?"),
            // Numbers of new batches would count as stored.
            Some(_) if position > last => Some("it knows more than this collector; was the disk rolled back?"),
            Some(_) => None,
        };
        if let Some(reason) = reason {
            let pending_from = self.lock().first_pending().map_or(last, |first| first - 1);
            tracing::warn!(reason, position, pending_from, "a new epoch begins in the database");
            // A kill from here on finds another epoch than the spool knows, begins one more, and stores nothing twice.
            store.begin_epoch(head.epoch(), head.last_seq + 1, WRITER, pending_from)?;
            head = store.head()?;
            position = store.position(WRITER)?;
        }
        let epoch = head.epoch().to_owned();
        self.learn(Known { epoch: epoch.clone(), position })?;
        self.stored_at = Some(Instant::now());
        Ok(Connection { store, epoch, position })
    }

    fn follow_request(&mut self) -> Result<(), StoreError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let Ok(request) = durable::read_plain(&self.root.epoch_request(), 64 << 10) else { return Ok(()) };
        // Half a file is one that the agent is about to replace.
        let Ok(request) = serde_json::from_slice::<EpochRequest>(&request) else { return Ok(()) };
        // Followed once: from then on the epoch is another.
        if request.epoch == connection.epoch {
            tracing::warn!(first_seq = request.first_seq, "HQ knows more than this database; a new epoch begins");
            // Noted before: a kill in between finds another epoch, and what is pending begins behind this position.
            let position = connection.position;
            let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
            spool.note().map_err(|error| StoreError::Disk(error.to_string()))?;
            drop(spool);
            connection.store.begin_epoch(&request.epoch, request.first_seq, WRITER, position)?;
            connection.epoch = connection.store.head()?.epoch().to_owned();
            let known = Known { epoch: connection.epoch.clone(), position };
            self.learn(known)?;
        }
        Ok(())
    }

    /// Durable before anything is stored on the strength of it.
    fn learn(&self, known: Known) -> Result<(), StoreError> {
        let mut spool = self.lock();
        let news = spool.known().is_none_or(|before| before.epoch != known.epoch);
        spool.learn(known);
        if news { spool.note().map_err(|error| StoreError::Disk(error.to_string())) } else { Ok(()) }
    }

    /// Whether the time is up that a stop leaves to the store.
    fn is_overdue(&mut self) -> bool {
        if self.finish_by.is_none() && self.stopping.load(Ordering::Acquire) {
            self.finish_by = Some(Instant::now() + FINISH_WITHIN);
        }
        self.finish_by.is_some_and(|deadline| Instant::now() > deadline)
    }

    fn is_finished(&mut self) -> bool {
        let overdue = self.is_overdue();
        if self.finish_by.is_none() {
            return false;
        }
        let nothing_left = self.connection.as_ref().is_some_and(|connection| {
            !self.spool.lock().unwrap_or_else(PoisonError::into_inner).has_after(connection.position)
        });
        // Without a connection the spool keeps everything; there is nothing to wait for.
        nothing_left || self.connection.is_none() || overdue
    }

    /// Until something comes in; with a failing store, which is not asked more often because more comes in, all of
    /// `wait`. A stop, or an update that begins or ends, is never kept waiting.
    fn wait(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        loop {
            let woken = self.wakes.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok();
            let asked = self.control.frozen_for() != self.holding;
            if !woken || asked || self.connection.is_some() || self.stopping.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
