//! An export's body: readings page by page, as gzip members, through a short channel. However slow the reader, no more
//! than a few members are in memory, and no statement stays open for long.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use protocol::control::FromChild;
use protocol::export::{EpochRange, write_member};
use readings::{Cursor, Span, Store, StoreError, write_line};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::Agent;
use crate::session::{Busy, Session};

/// A member is closed when its lines are about so long.
const MEMBER_BYTES: usize = 1 << 20;
/// Members that wait for the reader.
const WAITING_MEMBERS: usize = 2;
/// Readings of one statement at the start; then as many as fill a member.
const FIRST_PAGE: u64 = 1_000;
const LARGEST_PAGE: u64 = 20_000;

/// What is exported.
pub struct Source {
    pub store: Box<dyn Store>,
    /// The parts that overlap with what HQ may have, and at the end the part behind its place.
    pub spans: Vec<Span>,
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
        let outcome = Writer { sender: &sender, session: &watch.session, lines: Vec::new(), sent: 0 }.write(source);
        let ended = match &outcome {
            Ok(()) => "whole".to_owned(),
            Err(Broken::ReaderGone) => "the reader went away".to_owned(),
            Err(Broken::Store(error)) => format!("broken off: {error}"),
            Err(Broken::Miscounted { sent }) => format!("broken off: {sent} readings instead of {count}"),
        };
        match &outcome {
            Ok(()) => watch.agent.control.say(&FromChild::Exported(watch.agent.account.exported(count))),
            Err(_) => tracing::warn!(outcome = %ended, "an export did not end well"),
        }
        if matches!(outcome, Err(Broken::Store(_) | Broken::Miscounted { .. })) {
            // The connection is torn, so that nobody takes the stream for whole.
            let _ = sender.blocking_send(Err(io::Error::other(ended.clone())));
        }
        watch.session.note(|record| record.ended = ended);
        drop((watch.busy, watch.permit));
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

struct Writer<'a> {
    sender: &'a mpsc::Sender<io::Result<Bytes>>,
    session: &'a Session,
    lines: Vec<u8>,
    sent: u64,
}

impl Writer<'_> {
    fn write(mut self, source: Source) -> Result<(), Broken> {
        let Source { mut store, spans, count, epochs, next } = source;
        let last = spans.len().saturating_sub(1);
        let cursor_at = |at: usize, seq: u64| {
            // Who breaks off among overlapping readings starts over; they are few.
            let behind = epochs.iter().find(|range| at == last && (range.first_seq..=range.last_seq).contains(&seq));
            behind.map(|range| Cursor { epoch: range.epoch.clone(), seq, cut: None }.to_string())
        };
        for (at, span) in spans.iter().enumerate() {
            let (mut from, mut page) = (span.first_seq, FIRST_PAGE);
            while from <= span.last_seq {
                let to = span.last_seq.min(from + page - 1);
                let before = self.lines.len();
                let mut rows = 0_u64;
                let lines = &mut self.lines;
                store
                    .read(Span { first_seq: from, last_seq: to, not_before: span.not_before }, &mut |row| {
                        write_line(lines, row);
                        rows += 1;
                    })
                    .map_err(Broken::Store)?;
                self.sent += rows;
                from = to + 1;
                // So that the next page about fills a member, whatever the length of the lines.
                let line = ((self.lines.len() - before) as u64 / rows.max(1)).max(1);
                page = (MEMBER_BYTES as u64 / line).clamp(1, LARGEST_PAGE);
                if self.lines.len() >= MEMBER_BYTES && from <= span.last_seq {
                    self.send(cursor_at(at, to).as_deref(), rows)?;
                } else {
                    self.session.note(|record| record.records += rows);
                }
            }
            if at < last {
                self.send(None, 0)?;
            }
        }
        if self.sent != count {
            return Err(Broken::Miscounted { sent: self.sent });
        }
        self.send(Some(&next.to_string()), 0)
    }

    fn send(&mut self, cursor_behind: Option<&str>, rows: u64) -> Result<(), Broken> {
        let member = write_member(&self.lines, cursor_behind);
        self.lines.clear();
        self.session.note(|record| {
            record.records += rows;
            record.bytes += member.len() as u64;
        });
        self.sender.blocking_send(Ok(member.into())).map_err(|_| Broken::ReaderGone)
    }
}
