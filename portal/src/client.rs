//! Who asks for something that only an operator may: from where, and with what to show for it.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use daemon::server::Peer;
use protocol::control::{Caller, Question, Secret};
use serde::de::DeserializeOwned;

use crate::Portal;
use crate::language::Words;
use crate::refusal::{Refusal, verdict};
use crate::sessions;
use crate::visitor::{self, Visitor};

pub const PIN_HEADER: &str = "x-config-pin";
/// A PIN has 4 to 12 digits; that is for the supervisor to judge, but it need not read more than this.
const PIN_LIMIT_BYTES: usize = 64;

pub struct Client {
    pub caller: Caller,
    /// By TLS.
    pub secure: bool,
    pub words: &'static Words,
    /// When the session began that this client has shown.
    pub session: Option<Instant>,
    pin: Option<Secret>,
}

impl FromRequestParts<Arc<Portal>> for Client {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Response> {
        let Ok(visitor) = Visitor::from_request_parts(parts, portal).await;
        let peer = Extension::<Peer>::from_request_parts(parts, portal).await;
        let Extension(peer) = peer.map_err(|missing| missing.into_response())?;
        let caller = if peer.is_here() { Caller::Local } else { Caller::Remote };
        let words = visitor.words();
        let pin = pin_of(&parts.headers).map_err(|refusal| refusal.answer(words))?;
        let token = visitor::cookie(&parts.headers, sessions::COOKIE);
        let session = token.and_then(|token| portal.sessions.began(token, Instant::now()));
        Ok(Self { caller, secure: peer.secure, words, session, pin })
    }
}

impl Client {
    /// Whoever sends a PIN is judged by it, session or not.
    pub async fn admit(&self, portal: &Portal) -> Result<(), Refusal> {
        match (&self.pin, self.session) {
            (Some(pin), _) => self.check(portal, pin.clone(), StatusCode::UNAUTHORIZED).await,
            (None, Some(_)) => Ok(()),
            (None, None) => Err(Refusal::PinRequired),
        }
    }

    /// Has the supervisor judge a PIN; `wrong` is the answer to a wrong one.
    pub async fn check(&self, portal: &Portal, pin: Secret, wrong: StatusCode) -> Result<(), Refusal> {
        verdict(portal.supervisor.ask(Question::Pin { pin, caller: self.caller }).await, wrong)
    }

    pub fn pin_or_header(&self, pin: Option<Secret>) -> Result<Secret, Refusal> {
        let pin = pin.or_else(|| self.pin.clone()).ok_or(Refusal::PinRequired)?;
        if pin.0.len() > PIN_LIMIT_BYTES { Err(Refusal::Malformed) } else { Ok(pin) }
    }
}

fn pin_of(headers: &HeaderMap) -> Result<Option<Secret>, Refusal> {
    let Some(pin) = headers.get(PIN_HEADER) else { return Ok(None) };
    match pin.to_str() {
        Ok(pin) if pin.len() <= PIN_LIMIT_BYTES => Ok(Some(Secret(pin.to_owned()))),
        _ => Err(Refusal::Malformed),
    }
}

/// What is wrong with a body is not told: the words would quote it, and there is a PIN in it.
pub fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
        _ => Refusal::Malformed,
    })?;
    let text = if body.is_empty() { b"{}" } else { body.trim_ascii() };
    // Serde would take a list of the fields too.
    let fields = if text.starts_with(b"{") { serde_json::from_slice(text).ok() } else { None };
    fields.ok_or(Refusal::Malformed)
}
