//! An export's body, in order: what the packers make of the readings goes out as gzip members, through a short channel.
//! However slow the reader, no more than a few pages are in memory, packed, and no statement stays open for long.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use protocol::export::{EpochRange, write_member};
use readings::{Cursor, Span, Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::packing::{Packed, Packers, Pages, Place, pack};
use crate::Agent;
use crate::session::{Busy, Session};

/// Members that wait for the reader.
const WAITING_MEMBERS: usize = 1;
/// Pages that are packed, or being packed, behind the one that goes out.
const WAITING_PAGES: usize = 2;
/// From so many readings on a second connection is worth its opening.
const WORTH_TWO: u64 = 50_000;

/// What is exported.
pub struct Source {
    pub store: Box<dyn Store>,
    /// The parts that overlap with what HQ may have, and at the end the part behind its place.
    pub spans: Vec<Span>,
    /// How many of these are of the first kind.
    pub overlapping: usize,
    pub count: u64,
    pub epochs: Vec<EpochRange>,
    pub next: Cursor,
}

/// Who is told what became of it.
pub struct Watch {
    pub session: Arc<Session>,
    pub busy: Busy,
    pub permit: OwnedSemaphorePermit,
    pub agent: Arc<Agent>,
}

pub fn start(source: Source, watch: Watch) -> impl Stream<Item = io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(WAITING_MEMBERS);
    tokio::task::spawn_blocking(move || {
        let count = source.count;
        let outcome = write(source, &watch, &sender);
        let ended = match &outcome {
            Ok(()) => "whole".to_owned(),
            Err(Broken::ReaderGone) => "the reader went away".to_owned(),
            Err(Broken::Store(error)) => format!("broken off: {error}"),
            Err(Broken::Miscounted { sent }) => format!("broken off: {sent} readings instead of {count}"),
        };
        if matches!(outcome, Err(Broken::Store(_) | Broken::Miscounted { .. })) {
            // The connection is torn, so that nobody takes the stream for whole.
            let _ = sender.blocking_send(Err(io::Error::other(ended.clone())));
        }
        // The stream ends here; HQ does not wait for what is noted of it, and finds room for its next one.
        drop(watch.permit);
        drop(sender);
        match &outcome {
            Ok(()) => {
                watch.agent.account.exported(count);
                if let Err(error) = watch.agent.exporter.went_out(&watch.session.key_id) {
                    tracing::warn!(%error, "that an export went out whole could not be noted");
                }
            }
            Err(_) => tracing::warn!(outcome = %ended, "an export did not end well"),
        }
        watch.agent.tell_exported();
        watch.session.note(|record| record.ended = ended);
        drop(watch.busy);
    });
    futures_util::stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|item| (item, receiver)))
}

enum Broken {
    ReaderGone,
    Store(StoreError),
    /// Retention, or a hand in the database, has taken what was promised.
    Miscounted {
        sent: u64,
    },
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Pages are packed by two threads, each with a connection of its own, and go out in their order.
fn write(source: Source, watch: &Watch, sender: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), Broken> {
    let Source { mut store, spans, overlapping, count, epochs, next } = source;
    let exporter = &watch.agent.exporter;
    let packers: &Packers = exporter.packers();
    let _exporting = packers.exporting();
    let (order, places) = mpsc::channel(WAITING_PAGES);
    let pages = Pages::new(spans, overlapping, epochs, order);
    let (begun, has_begun) = std::sync::mpsc::channel();
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| pack(store.as_mut(), &pages, packers));
        if count >= WORTH_TWO {
            let (exporter, pages) = (&exporter, &pages);
            scope.spawn(move || {
                // Opening it would take the processor from the first page, for which HQ waits.
                if has_begun.recv().is_err() {
                    return;
                }
                match exporter.open_store() {
                    Ok(mut second) => pack(second.as_mut(), pages, packers),
                    // The first one does it all then.
                    Err(error) => tracing::warn!(%error, "a second connection for an export could not be opened"),
                }
            });
        }
        send_in_order(places, watch, sender, begun)
    })?;
    if sent != count {
        return Err(Broken::Miscounted { sent });
    }
    send(watch, sender, write_member(&[], Some(&next.to_string())), 0)
}

/// Sends what is packed, page by page, and says how many readings that were. Takes the queue: with it, however this ends, go
/// the places in it, and whoever packs for one of them sees that nobody wants it any more. `begun` hears of the first member.
fn send_in_order(
    mut places: mpsc::Receiver<Place>,
    watch: &Watch,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    begun: std::sync::mpsc::Sender<()>,
) -> Result<u64, Broken> {
    let (mut sent, mut begun) = (0, Some(begun));
    // Whoever packs keeps a sender by way of the pages; the last page closes it.
    while let Some(mut place) = places.blocking_recv() {
        while let Some(packed) = place.blocking_recv() {
            for Packed { member, rows } in packed? {
                sent += rows;
                send(watch, sender, member, rows)?;
                // Where nobody waits to hear it, nobody is missed.
                let _ = begun.take().map(|begun| begun.send(()));
            }
        }
    }
    Ok(sent)
}

fn send(watch: &Watch, sender: &mpsc::Sender<io::Result<Bytes>>, member: Vec<u8>, rows: u64) -> Result<(), Broken> {
    watch.session.note(|record| {
        record.records += rows;
        record.bytes += member.len() as u64;
    });
    sender.blocking_send(Ok(member.into())).map_err(|_| Broken::ReaderGone)
}
