//! Opening a session.

use hyper::StatusCode;
use protocol::session::{AuthRequest, AuthResponse, Challenge, refusal};
use protocol::signing::PrivateKey;
use protocol::{Failure, Timestamp};

use super::AuthForm;
use super::connection::{Connection, json, refused};

/// Proves who we are and returns the session's token. Never falls back to the other form by itself: whoever can make the
/// challenge fail could ask for the weaker proof.
pub async fn open(connection: &mut Connection, key: &PrivateKey, form: AuthForm) -> Result<String, Failure> {
    let timestamp = Timestamp::now().with_millis();
    let request = match form {
        AuthForm::Timestamp => AuthRequest::plain(key, timestamp),
        AuthForm::Challenge => {
            let answer = connection.get("/auth/challenge", None).await?;
            if answer.status() != StatusCode::OK {
                return Err(refused(answer).await);
            }
            let challenge: Challenge = json(answer).await?;
            if challenge.agent_id != connection.fingerprint() {
                return Err(Failure::refused(format!(
                    "the agent calls itself {}, but holds the key {}: somebody may be in between; nothing was signed",
                    challenge.agent_id,
                    connection.fingerprint()
                )));
            }
            AuthRequest::answering(key, &challenge, timestamp)
        }
    };
    let answer = connection.post_json("/auth", &request).await?;
    if answer.status() != StatusCode::OK {
        let failure = refused(answer).await;
        let advice = if failure.message.contains(refusal::INVALID_SIGNATURE) {
            "; is config/server_public.pem at the plant the other half of this key?"
        } else if failure.message.contains(refusal::STALE_TIMESTAMP) {
            "; are both clocks right? --auth challenge does not need them to be"
        } else {
            ""
        };
        return Err(Failure { message: failure.message + advice, ..failure });
    }
    Ok(json::<AuthResponse>(answer).await?.session_token)
}
