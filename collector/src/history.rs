//! `/trend` and `/history.csv`: what a tag did, for the portal. Read by connections of their own, so that nobody who looks
//! keeps a batch waiting.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use config::InstallRoot;
use daemon::Control;
use futures_util::stream;
use protocol::Timestamp;
use readings::{Row, Span, Store, StoreError, Trend, TrendQuery};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use updater::database::ActiveDatabase;

/// Connections that look at a time, and that read for a file; each takes some memory, and a core while it reads.
const LOOKERS: usize = 2;
const FILES: usize = 2;
/// What is asked for beyond that is not looked for.
const LONGEST: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// Whoever takes nothing for so long is gone.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const MOST_PIECES: u32 = 4_000;
/// Readings looked through in one statement: others who write get their turn.
const PAGE: u64 = 200_000;
/// Pieces of a file that wait for a slow reader.
const WAITING: usize = 4;

pub struct History {
    root: InstallRoot,
    database: ActiveDatabase,
    control: Arc<Control>,
    lookers: Arc<Semaphore>,
    files: Arc<Semaphore>,
}

#[derive(Deserialize)]
struct Asked {
    tag: String,
    from: Timestamp,
    to: Timestamp,
    #[serde(default = "usual_pieces")]
    pieces: u32,
}

fn usual_pieces() -> u32 {
    1_000
}

/// A column each, as charts want it. Times in milliseconds since 1970; `null` where no value counts.
#[derive(Serialize)]
struct Columns {
    unit: Option<String>,
    length_seconds: f64,
    start: Vec<f64>,
    readings: Vec<u64>,
    bad: Vec<u64>,
    minimum: Vec<Option<f64>>,
    maximum: Vec<Option<f64>>,
    first: Vec<Option<f64>>,
    last: Vec<Option<f64>>,
    first_time: Vec<Option<f64>>,
    last_time: Vec<Option<f64>>,
}

/// Why there is nothing to show.
enum Unanswered {
    NoSuchTag,
    /// The database may be copied or changed at this moment.
    Updating,
    Busy,
    Store(StoreError),
}

impl From<StoreError> for Unanswered {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

pub fn routes(root: &InstallRoot, database: &ActiveDatabase, control: &Arc<Control>) -> Router {
    let (root, database, control) = (root.clone(), database.clone(), control.clone());
    let (lookers, files) = (Arc::new(Semaphore::new(LOOKERS)), Arc::new(Semaphore::new(FILES)));
    let history = Arc::new(History { root, database, control, lookers, files });
    Router::new().route("/trend", get(trend)).route("/history.csv", get(csv)).with_state(history)
}

async fn trend(State(history): State<Arc<History>>, Query(asked): Query<Asked>) -> Response {
    let Ok(place) = history.lookers.clone().acquire_owned().await else { return Unanswered::Busy.answer() };
    let looked = tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut store = history.open()?;
        let Asked { tag, from, to, pieces } = &asked;
        let from = *from.max(&to.saturating_sub(LONGEST));
        let query = TrendQuery { tag, from, to: *to, pieces: (*pieces).clamp(1, MOST_PIECES) };
        store.trend(query)?.ok_or(Unanswered::NoSuchTag)
    });
    match looked.await.unwrap_or(Err(Unanswered::Busy)) {
        Ok(trend) => Json(columns(&trend)).into_response(),
        Err(unanswered) => unanswered.answer(),
    }
}

async fn csv(State(history): State<Arc<History>>, Query(asked): Query<Asked>) -> Response {
    let Ok(place) = history.files.clone().try_acquire_owned() else { return Unanswered::Busy.answer() };
    let (sender, mut pieces) = mpsc::channel(WAITING);
    let (opened, is_open) = tokio::sync::oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let _place = place;
        // A second of it is enough to know whether there is such a tag.
        let second = TrendQuery { tag: &asked.tag, from: asked.to.saturating_sub(SECOND), to: asked.to, pieces: 1 };
        let store = history.open().and_then(|mut store| match store.trend(second)? {
            Some(_) => Ok(store),
            None => Err(Unanswered::NoSuchTag),
        });
        let mut store = match store {
            Ok(store) => store,
            Err(unanswered) => return drop(opened.send(Err(unanswered))),
        };
        // Whoever has asked may be gone.
        let _ = opened.send(Ok(()));
        let out = File { runtime: Handle::current(), sender: &sender, control: &history.control };
        if let Err(error) = write_csv(store.as_mut(), &asked, &out) {
            tracing::warn!(%error, tag = asked.tag, "a tag's history broke off");
            let broken = sender.send(Err(std::io::Error::other(error.to_string())));
            let _ = Handle::current().block_on(tokio::time::timeout(TAKEN_WITHIN, broken));
        }
    });
    match is_open.await {
        Ok(Err(unanswered)) => return unanswered.answer(),
        Err(_) => return Unanswered::Busy.answer(),
        Ok(Ok(())) => {}
    }
    let body = axum::body::Body::from_stream(stream::poll_fn(move |context| pieces.poll_recv(context)));
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], body).into_response()
}

/// As `collector import` reads it.
fn write_csv(store: &mut dyn Store, asked: &Asked, to: &File<'_>) -> Result<(), StoreError> {
    let mut text = csv::Writer::from_writer(Vec::new());
    let header = ["time", "tag", "value", "unit", "quality", "text"];
    text.write_record(header).expect("memory takes everything");
    for span in store.spans_between(asked.from, asked.to)? {
        let mut first_seq = span.first_seq;
        while first_seq <= span.last_seq {
            let last_seq = span.last_seq.min(first_seq + PAGE - 1);
            let mut each = |row: &Row<'_>| {
                if row.time >= asked.from && row.time < asked.to {
                    let value = row.value.map(|value| value.to_string()).unwrap_or_default();
                    let (time, quality) = (row.time.to_string(), row.quality.0.to_string());
                    let (unit, more) = (row.unit.unwrap_or_default(), row.text.unwrap_or_default());
                    let record = [time.as_str(), row.tag, &value, unit, &quality, more];
                    text.write_record(record).expect("memory takes everything");
                }
            };
            store.read_tag(&asked.tag, Span::all(first_seq, last_seq), &mut each)?;
            first_seq = last_seq + 1;
            let piece = text.into_inner().expect("memory takes everything");
            text = csv::WriterBuilder::new().from_writer(Vec::new());
            if !to.takes(piece)? {
                return Ok(());
            }
        }
    }
    to.takes(text.into_inner().expect("memory takes everything"))?;
    Ok(())
}

/// Where the text goes.
struct File<'a> {
    runtime: Handle,
    sender: &'a mpsc::Sender<Result<Bytes, std::io::Error>>,
    control: &'a Control,
}

impl File<'_> {
    /// Whether there is any use in more: there is none for a reader that is gone.
    fn takes(&self, piece: Vec<u8>) -> Result<bool, StoreError> {
        // Broken off, so that nobody takes half for the whole.
        if self.control.is_frozen() {
            return Err(StoreError::Unreachable("an update is under way".to_owned()));
        }
        if piece.is_empty() {
            return Ok(!self.sender.is_closed());
        }
        let sent = tokio::time::timeout(TAKEN_WITHIN, self.sender.send(Ok(piece.into())));
        Ok(self.runtime.block_on(sent).is_ok_and(|sent| sent.is_ok()))
    }
}

impl History {
    fn open(&self) -> Result<Box<dyn Store>, Unanswered> {
        if self.control.is_frozen() {
            return Err(Unanswered::Updating);
        }
        Ok(self.database.open(self.root.path())?)
    }
}

impl Unanswered {
    fn answer(self) -> Response {
        match self {
            Self::NoSuchTag => (StatusCode::NOT_FOUND, "no such tag\n".to_owned()),
            Self::Updating => (StatusCode::SERVICE_UNAVAILABLE, "an update is under way\n".to_owned()),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many look at once\n".to_owned()),
            Self::Store(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        }
        .into_response()
    }
}

fn columns(trend: &Trend) -> Columns {
    let millis = |time: Timestamp| time.as_micros() as f64 / 1e3;
    let pieces = || trend.pieces.iter().map(|(_, piece)| piece);
    let values = || pieces().map(|piece| piece.values);
    Columns {
        unit: trend.unit.clone(),
        length_seconds: trend.length as f64 / 1e6,
        start: trend.pieces.iter().map(|(start, _)| millis(*start)).collect(),
        readings: pieces().map(|piece| piece.readings).collect(),
        bad: pieces().map(|piece| piece.bad).collect(),
        minimum: values().map(|values| values.map(|it| it.minimum)).collect(),
        maximum: values().map(|values| values.map(|it| it.maximum)).collect(),
        first: values().map(|values| values.map(|it| it.first)).collect(),
        last: values().map(|values| values.map(|it| it.last)).collect(),
        first_time: values().map(|values| values.map(|it| millis(it.first_time))).collect(),
        last_time: values().map(|values| values.map(|it| millis(it.last_time))).collect(),
    }
}
