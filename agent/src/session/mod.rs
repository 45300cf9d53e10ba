//! Who is calling. What a session is used for is no concern of this module.
//!
//! `POST /auth` is judged in this order, and the first that fails is the answer:
//!
//! 1. the body is JSON with a timestamp in RFC 3339 form (`400`);
//! 2. this form of authentication is switched on (`401`);
//! 3. plain form: no more attempts from this address than allowed, right or wrong (`429`);
//! 4. challenge form: the nonce is ours; both forms: the signature is one of an HQ key (`401 invalid signature`; in the
//!    challenge form this counts as an attempt, and only this);
//! 5. plain form: the timestamp is fresh, and nobody used this signature before;
//!    challenge form: the nonce is not older than a minute, and nobody used it before.

mod attempts;
mod nonces;
mod timestamps;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::{AuthForms, InstallRoot, Settings};
use daemon::server::{Connection, Peer};
use protocol::Timestamp;
use protocol::control::PastSession;
use protocol::session::{AuthRequest, AuthResponse, Challenge, ErrorBody, challenge_message, refusal as refused};
use protocol::signing::PublicKey;

use crate::Agent;
use crate::account::Account;
use crate::routes::{AgentState, drop_rest, refusal, small_body};
use attempts::{Attempts, TooMany};
use nonces::{NonceState, Nonces};
use timestamps::{Timestamps, Untimely};
use tokens::Tokens;

pub use tokens::{Busy, Session};

/// Everything that says who may come in.
pub struct Sessions {
    keys: Vec<PublicKey>,
    forms: AuthForms,
    attempts: Attempts,
    nonces: Nonces,
    timestamps: Timestamps,
    tokens: Tokens,
    account: Arc<Account>,
}

impl Sessions {
    pub fn new(
        keys: Vec<PublicKey>,
        settings: &Settings,
        root: &InstallRoot,
        started: Timestamp,
        account: Arc<Account>,
    ) -> Self {
        Self {
            keys,
            forms: settings.agent_auth,
            attempts: Attempts::new(settings.auth_attempts_per_minute),
            nonces: Nonces::new(),
            timestamps: Timestamps::read(&root.agent_state().join("time.json"), started),
            tokens: Tokens::new(root.sessions_log()),
            account,
        }
    }

    /// What earlier sessions did, the newest first.
    pub fn past(&self, at_most: usize) -> Vec<PastSession> {
        self.tokens.past(at_most)
    }

    fn judge(
        &self,
        request: &AuthRequest,
        address: SocketAddr,
        agent_id: &str,
    ) -> Result<(PublicKey, Timestamp, Form), Refusal> {
        let timestamp =
            Timestamp::parse(&request.timestamp).map_err(|error| Refusal::Malformed(format!("timestamp: {error}")))?;
        let form = if request.nonce.is_some() { Form::Challenge } else { Form::Timestamp };
        if !(match form {
            Form::Challenge => self.forms.challenge,
            Form::Timestamp => self.forms.timestamp,
        }) {
            return Err(Refusal::Unauthorised(match form {
                Form::Challenge => "challenge form is switched off",
                Form::Timestamp => "timestamp form is switched off; answer a challenge",
            }));
        }
        let signature = STANDARD.decode(&request.signature).unwrap_or_default();
        let signer = |message: &[u8]| self.keys.iter().find(|key| key.verifies(message, &signature)).cloned();
        let wrong = Refusal::Unauthorised(refused::INVALID_SIGNATURE);
        match &request.nonce {
            None => {
                self.attempts.count(address.ip()).map_err(Refusal::TooMany)?;
                let key = signer(request.timestamp.as_bytes()).ok_or(wrong)?;
                self.timestamps.accept_plain(timestamp, &signature).map_err(|untimely| match untimely {
                    Untimely::Stale => Refusal::Unauthorised(refused::STALE_TIMESTAMP),
                    Untimely::Used => Refusal::Unauthorised(refused::SIGNATURE_ALREADY_USED),
                })?;
                Ok((key, timestamp, form))
            }
            Some(nonce) => {
                let ours = self.nonces.parse(nonce);
                let key = ours.and_then(|ours| {
                    let message = challenge_message(agent_id, nonce, &request.timestamp);
                    signer(message.as_bytes()).map(|key| (key, ours))
                });
                let Some((key, ours)) = key else {
                    self.attempts.count(address.ip()).map_err(Refusal::TooMany)?;
                    return Err(wrong);
                };
                match self.nonces.use_up(ours) {
                    NonceState::Good => {}
                    NonceState::Old => return Err(Refusal::Unauthorised(refused::NONCE_TOO_OLD)),
                    NonceState::Used => return Err(Refusal::Unauthorised(refused::NONCE_ALREADY_USED)),
                }
                self.timestamps.accept_challenged(timestamp);
                Ok((key, timestamp, form))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    Timestamp,
    Challenge,
}

enum Refusal {
    Malformed(String),
    Unauthorised(&'static str),
    TooMany(TooMany),
}

impl Refusal {
    /// The word in `agent_auth_total{result}`.
    fn word(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Unauthorised(_) => "refused",
            Self::TooMany(_) => "limited",
        }
    }

    fn into_response(self) -> Response {
        let body = |error: &str| ErrorBody { error: error.to_owned(), ..ErrorBody::default() };
        match self {
            Self::Malformed(detail) => {
                let body = ErrorBody { detail: Some(detail), ..body("malformed request") };
                (StatusCode::BAD_REQUEST, Json(body)).into_response()
            }
            Self::Unauthorised(error) => {
                let body = ErrorBody { agent_time: Some(Timestamp::now().with_millis()), ..body(error) };
                (StatusCode::UNAUTHORIZED, Json(body)).into_response()
            }
            Self::TooMany(TooMany { retry_after_seconds }) => {
                let retry_after = [(header::RETRY_AFTER, retry_after_seconds.to_string())];
                (StatusCode::TOO_MANY_REQUESTS, retry_after, Json(body(refused::TOO_MANY_ATTEMPTS))).into_response()
            }
        }
    }
}

/// `GET /auth/challenge`: costs the agent no memory and counts as no attempt.
pub async fn challenge(State(agent): AgentState) -> Response {
    let challenge = Challenge {
        nonce: agent.sessions.nonces.make(),
        agent_id: agent.certificate.fingerprint(),
        agent_time: Timestamp::now().with_millis(),
    };
    Json(challenge).into_response()
}

/// `POST /auth`.
pub async fn authenticate(
    State(agent): AgentState,
    Extension(peer): Extension<Peer>,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Response {
    let address = peer.address;
    let body = match small_body(request.into_body()).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    // serde would also take an array for a struct.
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body);
    let request = object
        .and_then(|object| serde_json::from_value::<AuthRequest>(object.into()))
        .map_err(|error| Refusal::Malformed(error.to_string()));
    let outcome = match request {
        Err(refusal) => Err(refusal),
        // An accepted time is synced to disk, which may take as long as the disk likes.
        Ok(request) => {
            let agent = agent.clone();
            let judging = move || agent.sessions.judge(&request, address, &agent.certificate.fingerprint());
            match tokio::task::spawn_blocking(judging).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    tracing::error!(%error, "judging an attempt failed");
                    return refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
                }
            }
        }
    };
    match outcome {
        Ok((key, signed_at, form)) => {
            agent.sessions.account.authenticated("granted");
            connection.prove();
            let token = agent.sessions.tokens.open(address, key.id(), signed_at, form);
            tracing::info!(%address, key = key.id(), ?form, "session opened");
            Json(AuthResponse { session_token: token }).into_response()
        }
        Err(refusal) => {
            agent.sessions.account.authenticated(refusal.word());
            let response = refusal.into_response();
            tracing::warn!(%address, status = response.status().as_u16(), "session refused");
            response
        }
    }
}

/// Lets only requests with a valid token through, and hands them their [`Session`].
pub async fn require_token(
    State(agent): AgentState,
    Extension(connection): Extension<Arc<Connection>>,
    mut request: Request,
    next: Next,
) -> Response {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let Some(session) = token.and_then(|token| agent.sessions.tokens.find(token)) else {
        let mut response = refusal(StatusCode::UNAUTHORIZED, refused::INVALID_TOKEN);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        // Somebody whose token has run out may be sending a package; the answer has to reach him.
        drop_rest(request.into_body());
        return response;
    };
    connection.prove();
    request.extensions_mut().insert(session);
    next.run(request).await
}

/// Writes the line of each session that is over, for as long as the process lives.
pub async fn end_idle_sessions(agent: Arc<Agent>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        agent.sessions.tokens.end(false);
    }
}

impl Sessions {
    /// A trusted signature names this time: the floor under the clock may follow it.
    pub fn saw_signed_time(&self, created: Timestamp) {
        self.timestamps.saw_signed(created);
    }

    /// Writes the line of every session that has none yet: the process is about to end.
    pub fn end_all(&self) {
        self.tokens.end(true);
    }
}
