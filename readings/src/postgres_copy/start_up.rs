//! Who we are, and the proof that the server asks for: none, a password, its MD5, or SCRAM-SHA-256.

use std::io::{Read, Write};

use postgres::Config;
use postgres::config::TargetSessionAttrs;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;

use super::messages::{Messages, unexpected};
use crate::error::StoreError;

// Kinds of the message `R`.
const OK: i32 = 0;
const CLEARTEXT: i32 = 3;
const MD5: i32 = 5;
const SASL: i32 = 10;
const SASL_CONTINUE: i32 = 11;
const SASL_FINAL: i32 = 12;

/// # Errors
/// [`StoreError::Configuration`] for a user or password that the server does not take.
pub fn start_up<S: Read + Write>(messages: &mut Messages<S>, config: &Config) -> Result<(), StoreError> {
    let user = config.get_user().unwrap_or_default();
    let parameters = [
        ("client_encoding", Some("UTF8")),
        ("user", Some(user)),
        ("database", config.get_dbname()),
        ("options", config.get_options()),
        ("application_name", config.get_application_name()),
    ];
    let parameters = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    messages.send(|bytes| frontend::startup_message(parameters, bytes))?;
    authenticate(messages, user, config.get_password())?;
    loop {
        let message = messages.next()?;
        match message.kind {
            b'Z' => return Ok(()),
            // The key for cancelling; and that the server knows fewer options than we sent.
            b'K' | b'v' => {}
            _ => message.in_passing()?,
        }
    }
}

fn authenticate<S: Read + Write>(
    messages: &mut Messages<S>,
    user: &str,
    password: Option<&[u8]>,
) -> Result<(), StoreError> {
    let (kind, body) = asked(messages)?;
    if kind == OK {
        return Ok(());
    }
    let password = password.ok_or_else(|| {
        StoreError::Configuration("the server asks for a password, and DATABASE_URL has none".to_owned())
    })?;
    match kind {
        CLEARTEXT => messages.send(|bytes| frontend::password_message(password, bytes))?,
        MD5 => {
            let salt = *body.first_chunk().ok_or_else(|| unexpected("no salt"))?;
            let hash = md5_hash(user.as_bytes(), password, salt);
            messages.send(|bytes| frontend::password_message(hash.as_bytes(), bytes))?;
        }
        SASL if body.split(|byte| *byte == 0).any(|name| name == sasl::SCRAM_SHA_256.as_bytes()) => {
            scram(messages, password)?;
        }
        other => {
            return Err(StoreError::Configuration(format!(
                "the server asks for a way to authenticate that is not known here ({other}); let it ask for scram-sha-256"
            )));
        }
    }
    expect(messages, OK).map(|_| ())
}

/// Without channel binding: a certificate that is verified does the same.
fn scram<S: Read + Write>(messages: &mut Messages<S>, password: &[u8]) -> Result<(), StoreError> {
    let refused = |error: std::io::Error| StoreError::Unreachable(format!("SCRAM: {error}"));
    let mut scram = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
    messages.send(|bytes| frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), bytes))?;
    scram.update(&expect(messages, SASL_CONTINUE)?).map_err(refused)?;
    messages.send(|bytes| frontend::sasl_response(scram.message(), bytes))?;
    // The server's own proof that it knows the password.
    scram.finish(&expect(messages, SASL_FINAL)?).map_err(refused)
}

fn expect<S: Read>(messages: &mut Messages<S>, expected: i32) -> Result<Vec<u8>, StoreError> {
    match asked(messages)? {
        (kind, body) if kind == expected => Ok(body),
        (kind, _) => Err(unexpected(&format!("step {kind} of an authentication instead of {expected}"))),
    }
}

/// The server's next request for authentication.
fn asked<S: Read>(messages: &mut Messages<S>) -> Result<(i32, Vec<u8>), StoreError> {
    loop {
        let message = messages.next()?;
        match (message.kind, message.body.split_first_chunk()) {
            (b'R', Some((kind, body))) => return Ok((i32::from_be_bytes(*kind), body.to_vec())),
            (b'v', _) => {}
            _ => message.in_passing()?,
        }
    }
}

/// Of several servers in a URL only one may be meant: the one that takes writes.
pub fn check_role<S: Read + Write>(messages: &mut Messages<S>, config: &Config) -> Result<(), StoreError> {
    let wanted: &[u8] = match config.get_target_session_attrs() {
        TargetSessionAttrs::ReadWrite => b"off",
        TargetSessionAttrs::ReadOnly => b"on",
        _ => return Ok(()),
    };
    messages.send(|bytes| frontend::query("SHOW transaction_read_only", bytes))?;
    let mut is_wanted = false;
    loop {
        let message = messages.next()?;
        match message.kind {
            b'D' => is_wanted = message.body.ends_with(wanted),
            b'T' | b'C' => {}
            b'Z' if is_wanted => return Ok(()),
            b'Z' => {
                return Err(StoreError::Unreachable("the server is not of the kind that DATABASE_URL asks for".into()));
            }
            _ => message.in_passing()?,
        }
    }
}
