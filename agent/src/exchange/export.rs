//! `GET /data/export`: everything since last time, exactly, as a stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use config::InstallRoot;
use daemon::Control;
use durable::Access;
use protocol::Timestamp;
use protocol::control::Exported;
use protocol::export::{self, EpochRange, Gap};
use readings::{Cursor, Span, Store, StoreError, condense};
use tokio::sync::Semaphore;
use updater::database::ActiveDatabase;

use super::cuts::{Asker, Cut, Cuts};
use super::packing::Packers;
use super::place::{self, Found, Start};
use super::stream;
use crate::account::Account;
use crate::routes::{AgentState, refusal};
use crate::session::Session;

/// Exports at once; more are asked to come back.
const MOST_AT_ONCE: usize = 16;
/// In a header; more are told as one for each reason.
const MOST_GAPS: usize = 24;

pub struct Exporter {
    database: ActiveDatabase,
    root: InstallRoot,
    cuts: Mutex<Cuts>,
    control: Arc<Control>,
    room: Arc<Semaphore>,
    packers: Packers,
}

/// What HQ asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    start: Start,
    /// Where an export that broke off was to end.
    until: Option<Cursor>,
}

/// An export whose size is known and whose cut is on disk.
struct Prepared {
    store: Box<dyn Store>,
    spans: Vec<Span>,
    overlapping: usize,
    count: u64,
    epochs: Vec<EpochRange>,
    gaps: Vec<Gap>,
    exact: bool,
    cut: Cut,
}

enum Unprepared {
    NoSuchCut,
    RolledBack,
    Store(StoreError),
    State(rusqlite::Error),
}

impl Exporter {
    pub fn new(database: ActiveDatabase, root: InstallRoot, cuts: Cuts, control: Arc<Control>) -> Self {
        Self {
            database,
            root,
            cuts: Mutex::new(cuts),
            control,
            room: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            packers: Packers::default(),
        }
    }

    pub fn packers(&self) -> &Packers {
        &self.packers
    }

    pub fn open_store(&self) -> Result<Box<dyn Store>, StoreError> {
        self.database.open(self.root.path())
    }

    fn prepare(&self, wish: &Wish, asker: &Asker<'_>) -> Result<Prepared, Unprepared> {
        let mut store = self.open_store()?;
        // The head is read in turn: a later cut never covers less.
        let mut cuts = self.cuts();
        let head = store.head()?;
        cuts.learn(&head)?;
        let place = match place::find(&wish.start, wish.until.as_ref(), asker.key, &head, &cuts)? {
            Found::Place(place) => place,
            Found::RolledBack { first_seq } => {
                self.request_epoch(head.epoch(), first_seq);
                return Err(Unprepared::RolledBack);
            }
        };
        let back = place.acknowledges.as_ref();
        let (cut, last_seq) = match &wish.until {
            Some(until) => {
                cuts.begin(asker, back, None)?;
                let cut = until.cut.map(|period_end| cuts.at(period_end)).transpose()?.flatten();
                let cut =
                    cut.filter(|cut| cut.epoch == until.epoch && cut.seq == until.seq).ok_or(Unprepared::NoSuchCut)?;
                let last_seq = head.locate(&cut.epoch, cut.seq).ok_or(Unprepared::NoSuchCut)?;
                (cut, last_seq)
            }
            None => {
                let (epoch, seq) = self.horizon(&head, &cuts)?;
                let last_seq = head.locate(&epoch, seq).unwrap_or(head.last_seq);
                let cut = cuts.begin(asker, back, Some((&epoch, seq)))?.ok_or(Unprepared::NoSuchCut)?;
                (cut, last_seq)
            }
        };
        if let Some(cut) = back {
            self.show_last_sync(cut.period_end);
        }
        drop(cuts);
        let mut spans = Vec::new();
        if let Some(time) = place.overlap_from {
            spans = store.spans_since(time, place.seq.min(last_seq))?;
        }
        spans.retain(|span| !span.is_empty());
        let overlapping = spans.len();
        spans.extend(Some(Span::all((place.seq + 1).max(head.first_seq), last_seq)).filter(|span| !span.is_empty()));
        let mut count = 0;
        for span in &spans {
            count += store.count(*span)?;
        }
        // Overlapping parts may be many and small; which epoch a `seq` belongs to is told once for all of them.
        let epochs = match (spans.iter().map(|span| span.first_seq).min(), spans.iter().map(|span| span.last_seq).max())
        {
            (Some(first), Some(last)) => head.epoch_ranges(first, last),
            _ => Vec::new(),
        };
        let gaps = condense(store.gaps(place.seq, last_seq)?, MOST_GAPS);
        Ok(Prepared { store, spans, overlapping, count, epochs, gaps, exact: place.exact, cut })
    }

    /// The farthest place that may be told: the head, or, while an update is on trial, what was told last.
    fn horizon(&self, head: &readings::Head, cuts: &Cuts) -> rusqlite::Result<(String, u64)> {
        if self.control.is_frozen()
            && let Some(newest) = cuts.newest()?
        {
            return Ok((newest.epoch, newest.seq));
        }
        Ok((head.epoch().to_owned(), head.last_seq))
    }

    fn request_epoch(&self, epoch: &str, first_seq: u64) {
        let request = serde_json::json!({ "epoch": epoch, "first_seq": first_seq }).to_string();
        if let Err(error) = durable::replace(&self.root.epoch_request(), request.as_bytes(), Access::Shared) {
            tracing::error!(%error, "the collector could not be asked for a new epoch");
        }
    }

    /// For people; nothing reads it back. In place: the folder, which holds the agent's key, is not the agent's to change.
    fn show_last_sync(&self, period_end: Timestamp) {
        let line = format!("{}\n", period_end.with_micros());
        if let Err(error) = std::fs::write(self.root.last_sync(), line) {
            tracing::warn!(%error, "the time of the last export could not be shown");
        }
    }

    /// Who has fetched what, and when an export last went out whole.
    pub fn told(&self) -> rusqlite::Result<Exported> {
        self.cuts().told()
    }

    /// An export to `key` has gone out whole.
    pub fn went_out(&self, key: &str) -> rusqlite::Result<()> {
        self.cuts().went_out(key)
    }

    fn cuts(&self) -> MutexGuard<'_, Cuts> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `GET /data/export`
pub async fn export(
    State(agent): AgentState,
    Extension(session): Extension<Arc<Session>>,
    RawQuery(query): RawQuery,
) -> Response {
    let wish = match parse(query.as_deref().unwrap_or_default()) {
        Ok(wish) => wish,
        Err((parameter, detail)) => {
            let body = serde_json::json!({ "error": "invalid parameter", "parameter": parameter, "detail": detail });
            return (StatusCode::BAD_REQUEST, axum::Json(body)).into_response();
        }
    };
    let Ok(permit) = agent.exporter.room.clone().try_acquire_owned() else {
        return later("too many exports at once");
    };
    let busy = session.busy();
    let prepared = {
        let (agent, session) = (agent.clone(), session.clone());
        let prepare =
            move || agent.exporter.prepare(&wish, &Asker { key: &session.key_id, signed_at: session.signed_at });
        tokio::task::spawn_blocking(prepare).await
    };
    let prepared = match prepared {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(error)) => return unprepared(error, &agent.account),
        Err(panic) => {
            tracing::error!(%panic, "preparing an export failed");
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
        }
    };
    agent.account.store_error(None);
    {
        // Beside the export, which need not wait for it.
        let agent = agent.clone();
        tokio::task::spawn_blocking(move || agent.tell_exported());
    }
    let Prepared { store, spans, overlapping, count, epochs, gaps, exact, cut } = prepared;
    let lost: u64 = gaps.iter().map(|gap| gap.readings).sum();
    let end = cut.period_end.with_micros();
    tracing::info!(key = %session.key_id, readings = count, exact, lost, cut = %end, "export");
    session.note(|record| record.cut = Some(cut.period_end));
    let next = Cursor { epoch: cut.epoch, seq: cut.seq, cut: Some(cut.period_end) };
    let headers = [
        (header::CONTENT_TYPE, "application/gzip".to_owned()),
        (HeaderName::from_static(export::RECORD_COUNT), count.to_string()),
        (HeaderName::from_static(export::PERIOD_END), cut.period_end.with_micros()),
        (HeaderName::from_static(export::NEXT_CURSOR), next.to_string()),
        (HeaderName::from_static(export::CURSOR_EXACT), exact.to_string()),
        (HeaderName::from_static(export::EPOCHS), EpochRange::write_all(&epochs)),
    ];
    let source = stream::Source { store, spans, overlapping, count, epochs, next };
    let body = stream::start(source, stream::Watch { session, busy, permit, agent });
    let mut response = Response::new(Body::from_stream(body));
    for (name, value) in headers {
        let value = HeaderValue::from_str(&value).expect("numbers, times and hexadecimal digits");
        response.headers_mut().insert(name, value);
    }
    if !gaps.is_empty() {
        let gaps = serde_json::to_string(&gaps).expect("plain values serialise");
        match HeaderValue::from_str(&gaps) {
            Ok(gaps) => drop(response.headers_mut().insert(HeaderName::from_static(export::GAP), gaps)),
            Err(error) => tracing::error!(%error, gaps, "the gaps cannot be told; who has edited the table?"),
        }
    }
    response
}

fn unprepared(error: Unprepared, account: &Account) -> Response {
    match error {
        Unprepared::NoSuchCut => {
            let body = serde_json::json!({ "error": "invalid parameter", "parameter": "until", "detail": "no cut of this plant" });
            (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
        }
        Unprepared::RolledBack => later("the database was rolled back; a new epoch is about to begin"),
        Unprepared::Store(error) => {
            tracing::warn!(%error, "the readings store does not answer");
            account.store_error(Some(error.to_string()));
            later("the readings store does not answer")
        }
        Unprepared::State(error) => {
            tracing::error!(%error, "state/agent/exports.db cannot be used");
            later("the agent's state cannot be written")
        }
    }
}

fn later(error: &str) -> Response {
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, error);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// The query, or which parameter is wrong and why.
fn parse(query: &str) -> Result<Wish, (&'static str, String)> {
    let (mut since, mut cursor, mut until) = (None, None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, slot) = match name {
            "since" => ("since", &mut since),
            "cursor" => ("cursor", &mut cursor),
            "until" => ("until", &mut until),
            // Of a newer HQ; it asks for nothing that this agent knows.
            _ => continue,
        };
        if slot.replace(decoded(value)).is_some() {
            return Err((name, "given twice".to_owned()));
        }
    }
    let place = |name, text: Option<String>| match text {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|()| (name, "not a cursor of this agent".to_owned())),
    };
    let start = match (since, place("cursor", cursor)?) {
        (Some(_), Some(_)) => return Err(("since", "cannot be given together with cursor".to_owned())),
        (Some(since), None) => Start::Since(Timestamp::parse(&since).map_err(|error| ("since", error.to_string()))?),
        (None, Some(cursor)) => Start::Cursor(cursor),
        (None, None) => Start::Unsaid,
    };
    let until = place("until", until)?;
    if until.is_some() && !matches!(start, Start::Cursor(_)) {
        return Err(("until", "goes with cursor".to_owned()));
    }
    Ok(Wish { start, until })
}

/// Percent-decoding; a `+` stands for itself, since it is the sign of a time's offset.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped =
            (first == b'%').then(|| behind.get(..2)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl From<StoreError> for Unprepared {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for Unprepared {
    fn from(error: rusqlite::Error) -> Self {
        Self::State(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_understood_and_the_wrong_parameter_is_named() {
        let time = Timestamp::parse("2026-02-22T10:00:00Z").unwrap();
        let cursor = "1.0123456789abcdef0123456789abcdef.17.-";
        let good = [
            ("", Start::Unsaid),
            ("since=2026-02-22T10:00:00Z&other=1", Start::Since(time)),
            ("since=2026-02-22T10%3A00%3A00Z", Start::Since(time)),
            ("since=2026-02-22T12:00:00+02:00", Start::Since(time)),
            ("since=2026-02-22T12:00:00%2B02:00", Start::Since(time)),
        ];
        for (query, start) in good {
            assert_eq!(parse(query), Ok(Wish { start, until: None }), "{query}");
        }
        assert!(parse(&format!("cursor={cursor}&until={cursor}")).is_ok_and(|wish| wish.until.is_some()));
        let bad = [
            ("since=yesterday", "since"),
            ("since=", "since"),
            ("cursor=17", "cursor"),
            ("until=17", "until"),
            ("since=2026-02-22T10:00:00Z&since=2026-02-22T10:00:00Z", "since"),
        ];
        for (query, parameter) in bad {
            assert_eq!(parse(query).unwrap_err().0, parameter, "{query}");
        }
        assert_eq!(parse(&format!("until={cursor}")).unwrap_err().0, "until");
        assert_eq!(parse(&format!("cursor={cursor}&since=2026-02-22T10:00:00Z")).unwrap_err().0, "since");
    }
}
