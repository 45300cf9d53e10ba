//! `POST /update`: a signed package, from the wire to the supervisor's hands. It is streamed to disk, verified there, and
//! taken in by the supervisor, who judges it again; what is refused leaves no trace but a log line.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::InstallRoot;
use http_body_util::BodyExt as _;
use protocol::control::{Answer, FromChild, Question};
use semver::Version;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt as _, BufWriter};
use tokio::sync::Semaphore;
use updater::boot_record::{BootRecord, Phase};
use updater::package::{Code, Refusal, VerifiedPackage, parse_version, verify};
use updater::pending::{self, NotTaken};
use updater::situation::{limits, situation};

use crate::Agent;
use crate::routes::{AgentState, drop_rest};
use crate::session::Session;

/// Deliveries at once; each may fill the disk by a package.
const MOST_AT_ONCE: usize = 2;
const BUFFER_BYTES: usize = 256 << 10;
/// A sender that pauses for so long is gone.
const PAUSE: Duration = Duration::from_secs(30);
/// And one that is slower than this, after a minute, holds the place for nothing.
const BYTES_PER_SECOND: u64 = 1024;
/// Others are waited for, the sender having sent no more than fits into buffers.
const PLACE_WITHIN: Duration = Duration::from_secs(120);
/// How often the room on the disk is looked at.
const LOOK_AT_ROOM_EVERY: u64 = 8 << 20;

/// What limits deliveries.
pub struct Deliveries {
    places: Arc<Semaphore>,
}

impl Deliveries {
    /// Removes what earlier processes were still receiving.
    pub fn new(root: &InstallRoot) -> Self {
        for entry in std::fs::read_dir(root.incoming()).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        Self { places: Arc::new(Semaphore::new(MOST_AT_ONCE)) }
    }
}

/// What the headers of a delivery announce.
struct Announced {
    version: Version,
    signature: Vec<u8>,
}

/// Of what is wrong with a package, so much is told the operator.
const LONGEST_DETAIL: usize = 300;

/// Why a delivery is refused.
enum Refused {
    Package(Refusal),
    Busy,
    NoSpace(String),
    /// Not the package's fault; worth trying again.
    Later(String),
    /// The sender is gone or too slow.
    Gone(String),
}

/// `POST /update`
pub async fn update(
    State(agent): AgentState,
    Extension(session): Extension<Arc<Session>>,
    request: Request,
) -> Response {
    let _busy = session.busy();
    let (head, mut body) = request.into_parts();
    let version = header_text(&head.headers, "x-update-version").to_owned();
    let outcome = receive(&agent, &head.headers, &mut body).await;
    let (status, answer, verdict) = match &outcome {
        Ok(()) => (StatusCode::OK, serde_json::json!({ "status": "queued" }), "queued".to_owned()),
        Err(refused) => refused.answer(),
    };
    session.note(|record| {
        record.version_delivered = Some(version.chars().take(64).collect());
        record.verdict = Some(verdict.clone());
        record.ended = "update delivered".to_owned();
    });
    if let Err(refused) = &outcome {
        tracing::warn!(key = %session.key_id, version, verdict, detail = refused.detail(), "a delivery was refused");
        if let Refused::Package(Refusal { code, detail }) = refused {
            let detail = detail.chars().take(LONGEST_DETAIL).collect();
            agent.control.say(&FromChild::PackageRefused { code: code.word().to_owned(), detail });
        }
        drop_rest(body);
    }
    (status, Json(answer)).into_response()
}

async fn receive(agent: &Arc<Agent>, headers: &HeaderMap, body: &mut Body) -> Result<(), Refused> {
    let announced = Arc::new(announced(headers)?);
    let judged = (agent.clone(), announced.clone());
    blocking(move || judge_headers(&judged.0, &judged.1)).await?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let at_most = limits(&agent.settings).package_bytes;
    if length.is_some_and(|length| length > at_most) {
        return Err(too_large(at_most));
    }
    require_room(agent, length.unwrap_or(0))?;
    let place = tokio::time::timeout(PLACE_WITHIN, agent.deliveries.places.clone().acquire_owned()).await;
    let Ok(Ok(_place)) = place else { return Err(Refused::Later("other deliveries are under way".to_owned())) };
    let part = Part::new(&agent.root);
    write_to(&part.0, agent, body, at_most).await?;
    let (path, verified, expected) = (part.0.clone(), agent.clone(), announced);
    let name = blocking(move || verify_part(&verified, &path, &expected)).await?;
    take_in(agent, name).await
}

/// The file that is being received; gone with this unless it was renamed.
struct Part(PathBuf);

impl Part {
    fn new(root: &InstallRoot) -> Self {
        Self(root.incoming().join(format!("{}.part", uuid::Uuid::new_v4().simple())))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim()
}

fn announced(headers: &HeaderMap) -> Result<Announced, Refused> {
    let unsigned = || refusal(Code::InvalidSignature, "X-Manifest-Signature holds no signature");
    let signature = STANDARD.decode(header_text(headers, "x-manifest-signature")).map_err(|_| unsigned())?;
    if signature.is_empty() {
        return Err(unsigned());
    }
    let version = parse_version(header_text(headers, "x-update-version"))
        .map_err(|what| refusal(Code::BadVersion, format!("X-Update-Version: {what}")))?;
    Ok(Announced { version, signature })
}

/// What can be said before the body is read.
fn judge_headers(agent: &Agent, announced: &Announced) -> Result<(), Refused> {
    let record = BootRecord::read(&agent.root.boot_record()).map_err(|error| Refused::Later(error.to_string()))?;
    let (_, situation) =
        situation(&agent.root, &agent.settings, &record).map_err(|failure| Refused::Later(failure.message))?;
    situation.judge_version(&announced.version).map_err(Refused::Package)?;
    if record.phase == Phase::Committed { Ok(()) } else { Err(Refused::Busy) }
}

fn require_room(agent: &Agent, bytes: u64) -> Result<(), Refused> {
    let free = durable::free_bytes(&agent.root.incoming()).map_err(|error| Refused::Later(error.to_string()))?;
    let reserve = agent.settings.low_disk_reserve_bytes;
    match free >= bytes.saturating_add(reserve) {
        true => Ok(()),
        false => {
            Err(Refused::NoSpace(format!("{free} bytes are free, {bytes} are needed and {reserve} kept in reserve")))
        }
    }
}

async fn write_to(path: &Path, agent: &Agent, body: &mut Body, at_most: u64) -> Result<(), Refused> {
    let disk = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Refused::NoSpace(error.to_string()),
        _ => Refused::Later(durable::name_error("write", path, error).to_string()),
    };
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path).await.map_err(disk)?);
    let started = Instant::now();
    let (mut bytes, mut looked) = (0, 0);
    loop {
        let frame = tokio::time::timeout(PAUSE, body.frame()).await;
        let frame = match frame.map_err(|_| Refused::Gone("the sender paused for too long".to_owned()))? {
            None => break,
            Some(frame) => frame.map_err(|error| Refused::Gone(error.to_string()))?,
        };
        let Ok(piece) = frame.into_data() else { continue };
        bytes += piece.len() as u64;
        if bytes > at_most {
            return Err(too_large(at_most));
        }
        if bytes - looked > LOOK_AT_ROOM_EVERY {
            looked = bytes;
            require_room(agent, 0)?;
        }
        let seconds = started.elapsed().as_secs();
        if seconds > 60 && bytes / seconds < BYTES_PER_SECOND {
            return Err(Refused::Gone("the sender is too slow".to_owned()));
        }
        file.write_all(&piece).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)?;
    file.get_ref().sync_all().await.map_err(disk)
}

/// Judges what was received, and gives it the name under which the supervisor is told of it.
fn verify_part(agent: &Agent, path: &Path, announced: &Announced) -> Result<String, Refused> {
    let later = |failure: protocol::Failure| Refused::Later(failure.message);
    let record = BootRecord::read(&agent.root.boot_record()).map_err(|error| Refused::Later(error.to_string()))?;
    let (trust, situation) = situation(&agent.root, &agent.settings, &record).map_err(later)?;
    let file = std::fs::File::open(path).map_err(|error| Refused::Later(error.to_string()))?;
    let package = verify(file, &trust, &limits(&agent.settings), Some(&situation)).map_err(Refused::Package)?;
    check_announced(&package, announced)?;
    agent.sessions.saw_signed_time(package.manifest().created);
    // The same package may be delivered twice at once.
    let name = format!("{}-{}.zip", package.manifest_sha256(), uuid::Uuid::new_v4().simple());
    drop(package);
    durable::rename(path, &agent.root.incoming().join(&name)).map_err(|error| Refused::Later(error.to_string()))?;
    Ok(name)
}

fn check_announced(package: &VerifiedPackage, announced: &Announced) -> Result<(), Refused> {
    if package.signature() != announced.signature {
        return Err(refusal(Code::InvalidSignature, "X-Manifest-Signature is not the package's own signature"));
    }
    let version = &package.manifest().version;
    match *version == announced.version {
        true => Ok(()),
        false => {
            let detail = format!("X-Update-Version says {}, the manifest {version}", announced.version);
            Err(refusal(Code::VersionMismatch, detail))
        }
    }
}

/// Hands it to the supervisor; an agent that was started by hand does the supervisor's part itself.
async fn take_in(agent: &Arc<Agent>, file: String) -> Result<(), Refused> {
    if !agent.control.is_supervised() {
        let agent = agent.clone();
        return blocking(move || match pending::take_in(&agent.root, &agent.settings, &file) {
            Ok(_) => Ok(()),
            Err(NotTaken::Refused(refusal)) => Err(Refused::Package(refusal)),
            Err(NotTaken::Busy) => Err(Refused::Busy),
            Err(NotTaken::Failed(failure)) => Err(Refused::Later(failure.message)),
        })
        .await;
    }
    match agent.control.ask(Question::TakeIn { file }).await {
        Some(Answer::Done) => Ok(()),
        Some(Answer::Refused { status, .. }) if status == "busy" => Err(Refused::Busy),
        Some(Answer::Refused { reason: Some(reason), text, .. }) => match Code::from_word(&reason) {
            Some(code) => Err(refusal(code, text)),
            None => Err(Refused::Later(text)),
        },
        Some(Answer::Refused { text, .. }) => Err(Refused::Later(text)),
        answer => Err(Refused::Later(format!("the watchdog does not take it ({answer:?})"))),
    }
}

impl Refused {
    /// Status, body, and the word for the record of sessions.
    fn answer(&self) -> (StatusCode, serde_json::Value, String) {
        let plain = |status, word: &str| (status, serde_json::json!({ "status": word }), word.to_owned());
        match self {
            Self::Package(Refusal { code, detail }) => match code.status() {
                word @ ("same_version" | "older_version") => plain(StatusCode::CONFLICT, word),
                word @ "invalid_sig" => plain(StatusCode::BAD_REQUEST, word),
                word @ "too_large" => plain(StatusCode::PAYLOAD_TOO_LARGE, word),
                word => {
                    let body = serde_json::json!({ "status": word, "reason": code.word(), "detail": detail });
                    (StatusCode::BAD_REQUEST, body, format!("{word}: {}", code.word()))
                }
            },
            Self::Busy => plain(StatusCode::CONFLICT, "busy"),
            Self::NoSpace(_) => plain(StatusCode::INSUFFICIENT_STORAGE, "no_space"),
            Self::Later(what) => {
                let body = serde_json::json!({ "status": "try_later", "error": what });
                (StatusCode::SERVICE_UNAVAILABLE, body, "try_later".to_owned())
            }
            Self::Gone(_) => plain(StatusCode::REQUEST_TIMEOUT, "broken_off"),
        }
    }

    fn detail(&self) -> &str {
        match self {
            Self::Package(Refusal { detail, .. }) => detail,
            Self::Busy => "an update is being applied",
            Self::NoSpace(what) | Self::Later(what) | Self::Gone(what) => what,
        }
    }
}

fn refusal(code: Code, detail: impl Into<String>) -> Refused {
    Refused::Package(Refusal { code, detail: detail.into() })
}

fn too_large(at_most: u64) -> Refused {
    refusal(Code::TooLarge, format!("the package has more than {at_most} bytes (UPDATE_MAX_BYTES)"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refused::Later(format!("judging it failed: {error}"))))
}
