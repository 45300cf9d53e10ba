//! Opening a session: what is sent and what is signed. What a session is then used for is told elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::signing::PrivateKey;

/// Where the agent listens unless told otherwise.
pub const DEFAULT_PORT: u16 = 9876;

/// Stable error texts of `/auth`.
pub mod refusal {
    pub const INVALID_SIGNATURE: &str = "invalid signature";
    pub const STALE_TIMESTAMP: &str = "stale timestamp";
    pub const SIGNATURE_ALREADY_USED: &str = "signature already used";
    pub const NONCE_TOO_OLD: &str = "nonce too old";
    pub const NONCE_ALREADY_USED: &str = "nonce already used";
    pub const TOO_MANY_ATTEMPTS: &str = "too many attempts";
    pub const INVALID_TOKEN: &str = "invalid token";
}

/// Body of `POST /auth`. With a nonce it answers a challenge, without one the timestamp alone is signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthRequest {
    pub timestamp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Base64 of the raw RSA-PSS signature.
    pub signature: String,
}

/// Body of `200` to `POST /auth`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthResponse {
    pub session_token: String,
}

/// Body of `200` to `GET /auth/challenge`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Challenge {
    pub nonce: String,
    /// SHA-256 of the SPKI of the agent's certificate, hex.
    pub agent_id: String,
    pub agent_time: String,
}

/// Body of every refusal but `/update`'s.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl AuthRequest {
    /// The plain form: the signature is over the timestamp's bytes exactly as sent.
    pub fn plain(key: &PrivateKey, timestamp: String) -> Self {
        let signature = STANDARD.encode(key.sign(timestamp.as_bytes()));
        Self { timestamp, nonce: None, signature }
    }

    /// The challenge form: bound to one agent, one nonce, one time.
    pub fn answering(key: &PrivateKey, challenge: &Challenge, timestamp: String) -> Self {
        let message = challenge_message(&challenge.agent_id, &challenge.nonce, &timestamp);
        let signature = STANDARD.encode(key.sign(message.as_bytes()));
        Self { timestamp, nonce: Some(challenge.nonce.clone()), signature }
    }
}

/// What is signed to answer a challenge. The leading word keeps such a signature from being good for anything else.
pub fn challenge_message(agent_id: &str, nonce: &str, timestamp: &str) -> String {
    format!("plantlink-session-v1\n{agent_id}\n{nonce}\n{timestamp}")
}
