//! Why something is not done: a status and words that stay the same for programs, and a message for people.

use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use protocol::control::Answer;
use serde_json::{Value, json};

use crate::language::{Words, fill};

#[derive(Debug)]
pub enum Refusal {
    Malformed,
    TooLarge,
    PinRequired,
    WrongPin {
        answered_with: StatusCode,
        tries_left: u32,
    },
    LockedOut {
        seconds: u64,
    },
    /// No supervisor, or none that answers.
    Unsupervised,
    NothingWaits,
    /// A new PIN that is none.
    NoSuchPin,
    /// Several packages have waited, so somebody may mean another than the one that waits now.
    HashRequired,
    /// By the supervisor, for a reason of its own.
    Refused {
        status: String,
        reason: Option<String>,
        text: String,
    },
}

/// What the supervisor's answer means; `wrong` is the status for a wrong PIN.
pub fn verdict(answer: Option<Answer>, wrong: StatusCode) -> Result<(), Refusal> {
    Err(match answer {
        Some(Answer::Done) => return Ok(()),
        Some(Answer::WrongPin { tries_left }) => Refusal::WrongPin { answered_with: wrong, tries_left },
        Some(Answer::LockedOut { seconds }) => Refusal::LockedOut { seconds },
        Some(Answer::Refused { status, reason, text }) => Refusal::Refused { status, reason, text },
        None => Refusal::Unsupervised,
    })
}

impl Refusal {
    pub fn answer(self, words: &Words) -> Response {
        let message = self.message(words);
        let retry_after = match self {
            Self::LockedOut { seconds } => Some([(header::RETRY_AFTER, seconds.max(1))]),
            _ => None,
        };
        let (status, mut body) = self.body();
        body["message"] = Value::String(message);
        (status, retry_after, Json(body)).into_response()
    }

    fn body(self) -> (StatusCode, Value) {
        let error = |word: &str| json!({ "error": word });
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, error("malformed")),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, error("too large")),
            Self::PinRequired => (StatusCode::UNAUTHORIZED, error("pin required")),
            Self::WrongPin { answered_with, tries_left } => {
                (answered_with, json!({ "error": "wrong pin", "tries_left": tries_left }))
            }
            Self::LockedOut { seconds } => {
                (StatusCode::TOO_MANY_REQUESTS, json!({ "error": "locked out", "seconds": seconds }))
            }
            Self::Unsupervised => (StatusCode::SERVICE_UNAVAILABLE, error("no supervisor")),
            Self::NothingWaits => (StatusCode::CONFLICT, error("nothing waits")),
            Self::NoSuchPin => (StatusCode::BAD_REQUEST, error("no such pin")),
            Self::HashRequired => (StatusCode::CONFLICT, error("hash required")),
            Self::Refused { status, reason, text } => {
                (StatusCode::CONFLICT, json!({ "error": status, "reason": reason, "detail": text }))
            }
        }
    }

    fn message(&self, words: &Words) -> String {
        match self {
            Self::Malformed | Self::TooLarge => words.not_understood.to_owned(),
            Self::PinRequired => words.pin_required.to_owned(),
            Self::WrongPin { tries_left, .. } => fill(words.wrong_pin, &words.number(f64::from(*tries_left), 0)),
            Self::LockedOut { seconds } => fill(words.locked_out, &words.span(Duration::from_secs(*seconds))),
            Self::Unsupervised => words.nobody_decides.to_owned(),
            Self::NothingWaits => words.update_none.to_owned(),
            Self::NoSuchPin => words.no_such_pin.to_owned(),
            Self::HashRequired => words.hash_required.to_owned(),
            Self::Refused { status, .. } if status == "replaced" => words.replaced.to_owned(),
            Self::Refused { .. } => words.refused.to_owned(),
        }
    }
}
