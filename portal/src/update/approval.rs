//! The operator's yes to a package, or later.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use protocol::control::{Question, Secret};
use serde::Deserialize;
use serde_json::json;

use crate::Portal;
use crate::client::{Client, parse};
use crate::refusal::{Refusal, verdict};

#[derive(Deserialize)]
struct Wish {
    pin: Option<Secret>,
    /// Of the package that the operator has read of.
    manifest_sha256: Option<String>,
}

pub async fn apply(State(portal): State<Arc<Portal>>, client: Client, body: Result<Bytes, BytesRejection>) -> Response {
    match approve(&portal, &client, body).await {
        Ok(()) => (StatusCode::ACCEPTED, Json(json!({ "status": "accepted" }))).into_response(),
        Err(refusal) => refusal.answer(client.words),
    }
}

async fn approve(portal: &Portal, client: &Client, body: Result<Bytes, BytesRejection>) -> Result<(), Refusal> {
    let wish: Wish = parse(body)?;
    let pin = client.pin_or_header(wish.pin)?;
    let manifest_sha256 = match meant(portal, client, wish.manifest_sha256) {
        Ok(meant) => meant,
        Err(unclear) => {
            // A wrong PIN is told, and counted, whatever else is wrong.
            client.check(portal, pin, StatusCode::FORBIDDEN).await?;
            return Err(unclear);
        }
    };
    let question = Question::Approve { pin, caller: client.caller, manifest_sha256 };
    verdict(portal.supervisor.ask(question).await, StatusCode::FORBIDDEN)
}

pub async fn later(State(portal): State<Arc<Portal>>, client: Client, body: Result<Bytes, BytesRejection>) -> Response {
    match postpone(&portal, &client, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refusal.answer(client.words),
    }
}

async fn postpone(portal: &Portal, client: &Client, body: Result<Bytes, BytesRejection>) -> Result<(), Refusal> {
    client.admit(portal).await?;
    let wish: Wish = parse(body)?;
    let manifest_sha256 = meant(portal, client, wish.manifest_sha256)?;
    verdict(portal.supervisor.ask(Question::Postpone { manifest_sha256 }).await, StatusCode::FORBIDDEN)
}

/// A package that is named is the supervisor's to compare. Without a name the one that waits is meant, unless another
/// has waited in this client's time.
fn meant(portal: &Portal, client: &Client, named: Option<String>) -> Result<String, Refusal> {
    if let Some(named) = named {
        return Ok(named);
    }
    let waiting = portal.look_what_waits().ok_or(Refusal::NothingWaits)?;
    let since = client.session.unwrap_or(portal.started);
    if portal.arrivals.several_since(since) { Err(Refusal::HashRequired) } else { Ok(waiting) }
}
