//! Readings to gzip members, page by page, by several threads at once.
//!
//! [`Pages`] hands the pages of an export out in their order, each with a place in the queue of what goes out. [`Packers`]
//! bounds what all exports together pack at a time, and so their memory: whoever waits for a slow reader holds none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use protocol::export::EpochRange;
use readings::export::Packer;
use readings::{Cursor, Span, Store, StoreError};
use tokio::sync::mpsc;

/// Readings of the first page, so that the first byte comes soon; then as many as fill its members.
const FIRST_PAGE: u64 = 1_000;
const LARGEST_PAGE: u64 = 40_000;
/// A page is one statement, which costs the more the fewer readings it brings.
const MEMBERS_OF_A_PAGE: usize = 4;
/// What a page should have, a little less than its members hold: lines that become longer are cut there, and the rest of
/// the page is read again.
const PAGE_BYTES: u64 = (MEMBERS_OF_A_PAGE * Packer::FULL_BYTES) as u64 / 100 * 97;

/// One gzip member.
pub struct Packed {
    pub member: Vec<u8>,
    pub rows: u64,
}

/// Where the members of one page come; at once, if it was not misjudged.
pub type Place = mpsc::Receiver<Result<Vec<Packed>, StoreError>>;

/// The pages of an export that nobody has taken yet.
pub struct Pages {
    /// Held while a page waits for its place in the queue, so nobody who packs may need it.
    plan: Mutex<Plan>,
    /// Readings of the next page.
    rows: AtomicU64,
    epochs: Vec<EpochRange>,
    last_span: usize,
}

struct Plan {
    spans: Vec<Span>,
    at: usize,
    from: u64,
    /// Closed when all pages are taken, or nobody wants any.
    order: Option<mpsc::Sender<Place>>,
}

struct Page {
    span: Span,
    at: usize,
    place: mpsc::Sender<Result<Vec<Packed>, StoreError>>,
}

impl Pages {
    pub fn new(spans: Vec<Span>, epochs: Vec<EpochRange>, order: mpsc::Sender<Place>) -> Self {
        let last_span = spans.len().saturating_sub(1);
        let from = spans.first().map_or(0, |span| span.first_seq);
        let order = Some(order).filter(|_| !spans.is_empty());
        let plan = Mutex::new(Plan { spans, at: 0, from, order });
        Self { plan, rows: AtomicU64::new(FIRST_PAGE), epochs, last_span }
    }

    /// The next page, once there is a place in the queue for it.
    fn take(&self) -> Option<Page> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let order = plan.order.clone()?;
        let (place, receiver) = mpsc::channel(1);
        if order.blocking_send(receiver).is_err() {
            plan.order = None;
            return None;
        }
        let (at, whole) = (plan.at, plan.spans[plan.at]);
        let last_seq = whole.last_seq.min(plan.from + self.rows.load(Ordering::Relaxed) - 1);
        let span = Span { first_seq: plan.from, last_seq, not_before: whole.not_before };
        plan.from = last_seq + 1;
        if plan.from > whole.last_seq {
            plan.at += 1;
            match plan.spans.get(plan.at) {
                Some(next) => plan.from = next.first_seq,
                None => plan.order = None,
            }
        }
        Some(Page { span, at, place })
    }

    /// So that the next pages about fill their members, whatever the length of the lines.
    fn learn(&self, lines_bytes: usize, rows: u64) {
        let line = (lines_bytes as u64 / rows.max(1)).max(1);
        self.rows.store((PAGE_BYTES / line).clamp(1, LARGEST_PAGE), Ordering::Relaxed);
    }

    /// Where HQ can go on. Who breaks off among overlapping readings starts over; they are few.
    fn cursor_behind(&self, at: usize, seq: u64) -> Option<String> {
        let range = self.epochs.iter().find(|range| (range.first_seq..=range.last_seq).contains(&seq));
        let range = range.filter(|_| at == self.last_span)?;
        Some(Cursor { epoch: range.epoch.clone(), seq, cut: None }.to_string())
    }
}

/// Takes pages and packs them until there are none, or nobody wants them any more.
pub fn pack(store: &mut dyn Store, pages: &Pages, packers: &Packers) {
    while let Some(page) = pages.take() {
        let mut from = page.span.first_seq;
        while from <= page.span.last_seq {
            let packed = pack_some(store, pages, packers, &page, &mut from);
            let failed = packed.is_err();
            let is_empty = packed.as_ref().is_ok_and(Vec::is_empty);
            if !is_empty && page.place.blocking_send(packed).is_err() || failed {
                return;
            }
        }
    }
}

/// The members of the page from `from` on, which then is behind them.
fn pack_some(
    store: &mut dyn Store,
    pages: &Pages,
    packers: &Packers,
    page: &Page,
    from: &mut u64,
) -> Result<Vec<Packed>, StoreError> {
    let mut turn = packers.take();
    let packer = &mut turn.packer;
    let (mut members, mut rows, mut lines_bytes, mut cut) = (Vec::new(), 0, 0, None);
    let mut finish = |packer: &mut Packer, behind: u64| {
        let of_member = packer.rows();
        rows += of_member;
        lines_bytes += packer.lines_bytes();
        let member = packer.finish(pages.cursor_behind(page.at, behind).as_deref());
        members.push(Packed { member, rows: of_member });
        members.len()
    };
    let read = store.read(Span { first_seq: *from, ..page.span }, &mut |row| {
        if cut.is_some() {
            return;
        }
        if packer.is_full() && finish(packer, row.seq - 1) == MEMBERS_OF_A_PAGE {
            cut = Some(row.seq);
            return;
        }
        packer.row(row);
    });
    *from = cut.unwrap_or(page.span.last_seq + 1);
    if packer.rows() > 0 && read.is_ok() {
        finish(packer, *from - 1);
    }
    drop(turn);
    read?;
    if rows > 0 {
        pages.learn(lines_bytes, rows);
    }
    Ok(members)
}

/// What packs, for all exports together. More than there are processors would only take memory.
#[derive(Default)]
pub struct Packers {
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Packer>,
    in_use: usize,
    exports: usize,
}

const MOST_PACKERS: usize = 2;

/// An export that goes on. With the last one the packers go, and their memory.
pub struct Exporting<'a>(&'a Packers);

/// A packer in use.
struct Turn<'a> {
    packers: &'a Packers,
    packer: Packer,
}

impl Packers {
    pub fn exporting(&self) -> Exporting<'_> {
        self.lock().exports += 1;
        Exporting(self)
    }

    fn take(&self) -> Turn<'_> {
        let mut state = self.lock();
        while state.in_use >= MOST_PACKERS {
            state = self.given_back.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.in_use += 1;
        let packer = state.idle.pop().unwrap_or_default();
        Turn { packers: self, packer }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Exporting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.exports -= 1;
        if state.exports == 0 {
            state.idle.clear();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.packers.lock();
        state.in_use -= 1;
        // One that broke off in the middle is not used again.
        if self.packer.rows() == 0 {
            state.idle.push(std::mem::take(&mut self.packer));
        }
        drop(state);
        self.packers.given_back.notify_one();
    }
}
