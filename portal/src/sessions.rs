//! Who has shown the PIN lately. Kept in memory only, and of a cookie only the hash: what is read out of this process
//! opens nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use protocol::control::Secret;
use protocol::signing::hex;
use rand::RngCore as _;
use rand::rngs::OsRng;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::Portal;
use crate::client::{Client, parse};
use crate::refusal::Refusal;

pub const COOKIE: &str = "session";
const IDLE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Far more browsers than a plant PC has; then the one idle for longest makes room.
const MOST: usize = 64;

type TokenHash = [u8; 32];

#[derive(Default)]
pub struct Sessions(Mutex<HashMap<TokenHash, Session>>);

struct Session {
    began: Instant,
    used: Instant,
}

impl Sessions {
    /// Answers the new session's token.
    fn begin(&self, now: Instant) -> String {
        let mut token = [0; 32];
        OsRng.fill_bytes(&mut token);
        let token = hex(&token);
        let mut sessions = self.living(now);
        if sessions.len() >= MOST {
            let idlest = sessions.iter().min_by_key(|(_, session)| session.used).map(|(hash, _)| *hash);
            idlest.map(|hash| sessions.remove(&hash));
        }
        sessions.insert(hash(&token), Session { began: now, used: now });
        token
    }

    /// When the session of this token began, if it lives; it is used by that.
    pub fn began(&self, token: &str, now: Instant) -> Option<Instant> {
        let mut sessions = self.living(now);
        let session = sessions.get_mut(&hash(token))?;
        session.used = now;
        Some(session.began)
    }

    pub fn end_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn living(&self, now: Instant) -> MutexGuard<'_, HashMap<TokenHash, Session>> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now.duration_since(session.used) < IDLE_LIMIT);
        sessions
    }
}

fn hash(token: &str) -> TokenHash {
    Sha256::digest(token).into()
}

#[derive(Deserialize)]
struct Entry {
    pin: Option<Secret>,
}

/// The PIN once, then a cookie.
pub async fn begin(State(portal): State<Arc<Portal>>, client: Client, body: Result<Bytes, BytesRejection>) -> Response {
    match enter(&portal, &client, body).await {
        Ok(cookie) => (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response(),
        Err(refusal) => refusal.answer(client.words),
    }
}

async fn enter(portal: &Portal, client: &Client, body: Result<Bytes, BytesRejection>) -> Result<HeaderValue, Refusal> {
    let entry: Entry = parse(body)?;
    let pin = client.pin_or_header(entry.pin)?;
    client.check(portal, pin, StatusCode::FORBIDDEN).await?;
    portal.look_what_waits();
    let token = portal.sessions.begin(Instant::now());
    let secure = if client.secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
    Ok(cookie.parse().expect("hexadecimal is a header value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_a_quarter_of_an_hour_after_its_last_use() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let minute = |number: u64| start + Duration::from_secs(60 * number);
        let token = sessions.begin(start);
        assert_eq!(sessions.began(&token, minute(14)), Some(start));
        assert_eq!(sessions.began(&token, minute(28)), Some(start));
        assert_eq!(sessions.began(&token, minute(43)), None);
        assert_eq!(sessions.began("", minute(43)), None);
    }

    #[test]
    fn there_are_never_too_many_and_the_idlest_goes_first() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let second = |number: u64| start + Duration::from_secs(number);
        let first = sessions.begin(start);
        let second_oldest = sessions.begin(second(1));
        assert!(sessions.began(&first, second(2)).is_some());
        for number in 0..MOST as u64 - 1 {
            sessions.begin(second(3 + number));
        }
        let end = second(100);
        assert_eq!(sessions.living(end).len(), MOST);
        assert!(sessions.began(&first, end).is_some() && sessions.began(&second_oldest, end).is_none());
    }

    #[test]
    fn a_token_has_256_random_bits_and_is_not_kept() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (one, other) = (sessions.begin(now), sessions.begin(now));
        assert!(one != other && one.len() == 64 && one.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(sessions.living(now).keys().all(|kept| hex(kept) != one && hex(kept) != other));
    }
}
