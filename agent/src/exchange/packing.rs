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
const MEMBERS_OF_A_PAGE: usize = 2;
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
    /// The first so many spans overlap with what HQ may have.
    overlapping: usize,
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
    pub fn new(spans: Vec<Span>, overlapping: usize, epochs: Vec<EpochRange>, order: mpsc::Sender<Place>) -> Self {
        let from = spans.first().map_or(0, |span| span.first_seq);
        let order = Some(order).filter(|_| !spans.is_empty());
        let plan = Mutex::new(Plan { spans, at: 0, from, order });
        Self { plan, rows: AtomicU64::new(FIRST_PAGE), epochs, overlapping }
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
        let range = range.filter(|_| at >= self.overlapping)?;
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
    let (mut members, mut cut) = (Members::default(), None);
    let read = store.read(Span { first_seq: *from, ..page.span }, &mut |row| {
        if cut.is_none() && packer.is_full() {
            members.add(packer, pages.cursor_behind(page.at, row.seq - 1));
            cut = members.are_all().then_some(row.seq);
        }
        if cut.is_none() {
            packer.row(row);
        }
    });
    *from = cut.unwrap_or(page.span.last_seq + 1);
    if packer.rows() > 0 && read.is_ok() {
        members.add(packer, pages.cursor_behind(page.at, *from - 1));
    }
    drop(turn);
    read?;
    if members.rows > 0 {
        pages.learn(members.lines_bytes, members.rows);
    }
    Ok(members.packed)
}

/// What has become of a page.
#[derive(Default)]
struct Members {
    packed: Vec<Packed>,
    rows: u64,
    lines_bytes: usize,
}

impl Members {
    fn add(&mut self, packer: &mut Packer, cursor_behind: Option<String>) {
        let rows = packer.rows();
        self.rows += rows;
        self.lines_bytes += packer.lines_bytes();
        self.packed.push(Packed { member: packer.finish(cursor_behind.as_deref()), rows });
    }

    fn are_all(&self) -> bool {
        self.packed.len() >= MEMBERS_OF_A_PAGE
    }
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

#[cfg(test)]
mod tests {
    use protocol::Timestamp;
    use protocol::export::MemberReader;
    use readings::{Batch, Quality, Reading};

    use super::*;

    /// A store whose lines grow from some hundred bytes to tens of thousands and shrink again, of two epochs.
    fn store(folder: &std::path::Path) -> (Box<dyn Store>, u64) {
        let mut store = readings::open("sqlite:plant.db", folder).unwrap();
        let mut writer = 0;
        let mut append = |store: &mut dyn Store, lengths: &[usize]| {
            let reading = |length: &usize| Reading {
                time: Timestamp::EPOCH,
                tag: "line".into(),
                value: Some(1.0),
                unit: None,
                quality: Quality::GOOD,
                text: Some("x".repeat(*length)),
            };
            let readings: Vec<Reading> = lengths.iter().map(reading).collect();
            let batch = Batch { writer: "test", from: writer, to: writer + 1, readings: &readings, gaps: &[] };
            store.append(&batch).unwrap();
            writer += 1;
        };
        append(store.as_mut(), &[10; 3_000]);
        append(store.as_mut(), &[20_000; 500]);
        let head = store.head().unwrap();
        store.begin_epoch(head.epoch(), head.last_seq + 1, "test", 2).unwrap();
        append(store.as_mut(), &[20_000; 100]);
        append(store.as_mut(), &[0; 3_000]);
        let last_seq = store.head().unwrap().last_seq;
        (store, last_seq)
    }

    /// Each member: its first and last `seq`, and the cursor behind it.
    fn packed(store: &mut dyn Store, spans: Vec<Span>, overlapping: usize) -> Vec<(u64, u64, Option<Cursor>)> {
        let head = store.head().unwrap();
        let (order, mut places) = mpsc::channel(1_000);
        let pages = Pages::new(spans, overlapping, head.epoch_ranges(1, head.last_seq), order);
        let mut members = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| pack(store, &pages, &Packers::default()));
            while let Some(mut place) = places.blocking_recv() {
                while let Some(packed) = place.blocking_recv() {
                    members.extend(packed.unwrap());
                }
            }
        });
        let read = members.iter().map(|packed| {
            let mut reader = MemberReader::new(protocol::export::Whole::default());
            let mut lines = Vec::new();
            reader.read(&packed.member, |part| lines.extend_from_slice(part)).unwrap();
            let seqs: Vec<u64> = String::from_utf8(lines)
                .unwrap()
                .lines()
                .map(|line| line["{\"seq\":".len()..].split(',').next().unwrap().parse().unwrap())
                .collect();
            assert!(seqs.len() as u64 == packed.rows && seqs.windows(2).all(|pair| pair[0] < pair[1]));
            let cursor = reader.whole().cursor.as_ref().map(|cursor| cursor.parse().unwrap());
            (seqs[0], *seqs.last().unwrap(), cursor)
        });
        read.collect()
    }

    #[test]
    fn each_reading_is_in_one_member_and_each_cursor_is_the_place_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, last_seq) = store(folder.path());
        let head = store.head().unwrap();
        let members = packed(store.as_mut(), vec![Span::all(1, last_seq)], 0);
        let mut next = 1;
        for (first, last, cursor) in &members {
            let cursor = cursor.as_ref().unwrap();
            assert_eq!((*first, cursor.seq), (next, *last));
            let born = head.epoch_ranges(*last, *last);
            assert_eq!(cursor.epoch, born[0].epoch);
            next = last + 1;
        }
        assert_eq!(next, last_seq + 1);
        // Twelve megabytes of lines in members of two: pages that were judged by short lines were cut.
        assert!(members.len() > 6, "{members:?}");
    }

    #[test]
    fn nobody_goes_on_among_readings_that_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, last_seq) = store(folder.path());
        let overlap = Span { not_before: Some(Timestamp::EPOCH), ..Span::all(1, 3_200) };
        // Also where nothing is behind them.
        assert!(packed(store.as_mut(), vec![overlap], 1).iter().all(|(_, _, cursor)| cursor.is_none()));
        let members = packed(store.as_mut(), vec![overlap, Span::all(3_201, last_seq)], 1);
        assert!(members.iter().all(|(first, _, cursor)| cursor.is_some() == (*first > 3_200)));
    }
}
