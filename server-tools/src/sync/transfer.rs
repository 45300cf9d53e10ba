//! Bringing an export over, or the rest of one that broke off.

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use protocol::export::{self, EpochRange, Gap};
use protocol::{Exit, Failure, Timestamp};

use super::Pull;
use super::archive::{EVERYTHING, Export, Folder, Part, Pulled};
use super::connection::{Connection, refused, without_controls};
use super::report::Progress;

/// Why a pull did not come to its end.
pub enum Broken {
    /// There was no connection.
    Unreached(Failure),
    /// The connection broke; trying again may help.
    Off(Failure),
    /// Trying again at once does not help.
    Final(Failure),
}

/// A stream from which nothing comes for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// And one that brings less than this in a minute: a plant that trickles must not keep the others waiting.
const WINDOW: Duration = Duration::from_secs(60);
const LEAST_IN_WINDOW: usize = 32 << 10;

/// Goes on with what an earlier pull left, else asks for what is new. What was asked for with another `--since` is brought
/// to its end first.
pub async fn pull(
    connection: &mut Connection,
    token: &str,
    pull: &Pull,
    folder: &Folder,
    progress: &Progress,
) -> Result<Pulled, Broken> {
    let since = pull.since.map(|since| format!("since={}", since.with_micros()));
    while let Some(part) = folder.unfinished()? {
        let is_wanted = since.as_ref().is_none_or(|since| *since == part.export.request);
        let pulled = if part.is_complete() {
            folder.finish(part)?
        } else if let Some(answer) = go_on(connection, token, &part).await? {
            progress.begin(&part.export, part.whole().lines);
            receive(answer, part, folder, progress).await?
        } else {
            folder.discard(part)?;
            break;
        };
        if is_wanted {
            return Ok(pulled);
        }
    }
    let (request, period_start) = match (since, folder.state()?) {
        (Some(since), _) => (since, None),
        (None, Some(state)) => (format!("cursor={}", state.cursor), Some(state.period_end)),
        (None, None) => (EVERYTHING.to_owned(), None),
    };
    let answer = ask(connection, token, &request).await?;
    if answer.status() != StatusCode::OK {
        return Err(refused(answer).await.into());
    }
    let headers = Headers::read(&answer)?;
    let export = Export {
        client_id: pull.plant.client_id.clone(),
        period_start,
        period_end: headers.period_end,
        record_count: headers.record_count,
        next_cursor: headers.next_cursor,
        cursor_exact: headers.cursor_exact,
        epochs: headers.epochs,
        gaps: headers.gaps,
        request,
        agent_id: connection.fingerprint().to_owned(),
    };
    progress.begin(&export, 0);
    receive(answer, folder.begin(export)?, folder, progress).await
}

async fn ask(connection: &mut Connection, token: &str, query: &str) -> Result<Response<Incoming>, Failure> {
    connection.get(&format!("/data/export?{query}"), Some(token)).await
}

/// Asks for the rest of the same cut; `None` if that is no longer to be had and the export has to be asked for anew.
async fn go_on(connection: &mut Connection, token: &str, part: &Part) -> Result<Option<Response<Incoming>>, Broken> {
    let Some(cursor) = part.whole().cursor.as_deref().filter(|cursor| export::is_cursor(cursor)) else {
        return Ok(None);
    };
    let answer = ask(connection, token, &format!("cursor={cursor}&until={}", part.export.next_cursor)).await?;
    match answer.status() {
        StatusCode::OK => {
            let headers = Headers::read(&answer)?;
            let fits = headers.period_end == part.export.period_end
                && headers.cursor_exact
                && part.whole().lines + headers.record_count == part.export.record_count;
            Ok(fits.then_some(answer))
        }
        StatusCode::BAD_REQUEST => Ok(None),
        _ => Err(refused(answer).await.into()),
    }
}

async fn receive(
    answer: Response<Incoming>,
    mut part: Part,
    folder: &Folder,
    progress: &Progress,
) -> Result<Pulled, Broken> {
    let mut body = answer.into_body();
    let (mut since, mut bytes_since) = (Instant::now(), 0);
    loop {
        let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(frame) => frame,
            Err(_) => return Err(off(format!("nothing came for {} s", SILENCE.as_secs()))),
        };
        match frame {
            None => break,
            Some(Err(error)) => return Err(off(format!("the stream broke off: {error}"))),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    if let Err(failure) = part.write(&bytes) {
                        return Err(give_up(folder, part, failure));
                    }
                    progress.advance(part.whole());
                    bytes_since += bytes.len();
                    if since.elapsed() > WINDOW {
                        if bytes_since < LEAST_IN_WINDOW {
                            return Err(off(format!("only {bytes_since} bytes came in a minute")));
                        }
                        (since, bytes_since) = (Instant::now(), 0);
                    }
                }
            }
        }
    }
    if part.is_complete() {
        return Ok(folder.finish(part)?);
    }
    let failure = Failure::integrity(format!(
        "the export ended with {} readings where {} were promised; it is asked for anew at the next pull",
        part.whole().lines,
        part.export.record_count
    ));
    Err(give_up(folder, part, failure))
}

/// What is wrong in itself is not gone on with; what a full disk has cut short is.
fn give_up(folder: &Folder, part: Part, failure: Failure) -> Broken {
    let discarded = if failure.exit == Exit::Integrity { folder.discard(part) } else { Ok(()) };
    Broken::Final(discarded.err().unwrap_or(failure))
}

fn off(message: String) -> Broken {
    Broken::Off(Failure::try_later(message))
}

/// What an export says of itself.
struct Headers {
    period_end: Timestamp,
    record_count: u64,
    next_cursor: String,
    cursor_exact: bool,
    epochs: Vec<EpochRange>,
    gaps: Vec<Gap>,
}

impl Headers {
    fn read(answer: &Response<Incoming>) -> Result<Self, Failure> {
        let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let missing = |name: &str| Failure::failed(format!("the agent's answer has no usable {name} header"));
        let period_end = text(export::PERIOD_END).and_then(|time| Timestamp::parse(time).ok());
        Ok(Self {
            period_end: period_end.ok_or_else(|| missing(export::PERIOD_END))?,
            record_count: text(export::RECORD_COUNT)
                .filter(|count| count.bytes().all(|digit| digit.is_ascii_digit()))
                .and_then(|count| count.parse().ok())
                .ok_or_else(|| missing(export::RECORD_COUNT))?,
            next_cursor: text(export::NEXT_CURSOR)
                .filter(|cursor| export::is_cursor(cursor))
                .ok_or_else(|| missing(export::NEXT_CURSOR))?
                .to_owned(),
            cursor_exact: text(export::CURSOR_EXACT) == Some("true"),
            epochs: text(export::EPOCHS).and_then(EpochRange::read_all).ok_or_else(|| missing(export::EPOCHS))?,
            gaps: match text(export::GAP) {
                None => Vec::new(),
                Some(gaps) => {
                    let mut gaps: serde_json::Value = serde_json::from_str(gaps).map_err(|_| missing(export::GAP))?;
                    without_controls(&mut gaps);
                    serde_json::from_value(gaps).map_err(|_| missing(export::GAP))?
                }
            },
        })
    }
}

/// Out of reach is worth another try at once; everything else is not.
impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        if failure.exit == Exit::Unreachable { Self::Off(failure) } else { Self::Final(failure) }
    }
}
