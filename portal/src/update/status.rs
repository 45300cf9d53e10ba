use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use protocol::Timestamp;
use protocol::control::{Changes, KeyChanges, PendingUpdate, PlantStatus};
use serde::Serialize;

use crate::Portal;
use crate::client::Client;
use crate::refusal::Refusal;

/// The package's own fields are null when none waits.
#[derive(Serialize)]
struct Status<'a> {
    current_version: &'a str,
    phase: &'a str,
    pending_update: bool,
    pending_version: Option<&'a str>,
    notes: Option<&'a str>,
    received_at: Option<Timestamp>,
    manifest_sha256: Option<&'a str>,
    state: Option<&'a str>,
    changes: Option<&'a Changes>,
    signers: Option<&'a [String]>,
    bound: Option<bool>,
    migrations: Option<&'a [String]>,
    /// Only of a package that changes whose signatures count.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<&'a KeyChanges>,
    package_bytes: Option<u64>,
    error: Option<&'a str>,
}

pub async fn status(State(portal): State<Arc<Portal>>, client: Client) -> Response {
    let admitted = client.admit(&portal).await;
    match admitted.and_then(|()| portal.plant_status().ok_or(Refusal::Unsupervised)) {
        Ok(status) => Json(of(&status)).into_response(),
        Err(refusal) => refusal.answer(client.words),
    }
}

fn of(status: &PlantStatus) -> Status<'_> {
    let pending: Option<&PendingUpdate> = status.update.pending.as_ref();
    Status {
        current_version: &status.version,
        phase: &status.phase,
        pending_update: pending.is_some(),
        pending_version: pending.map(|pending| pending.version.as_str()),
        notes: pending.map(|pending| pending.notes.as_str()),
        received_at: pending.map(|pending| pending.received_at),
        manifest_sha256: pending.map(|pending| pending.manifest_sha256.as_str()),
        state: pending.map(|pending| pending.state.word()),
        changes: pending.map(|pending| &pending.changes),
        signers: pending.map(|pending| pending.signers.as_slice()),
        bound: pending.map(|pending| pending.bound),
        migrations: pending.map(|pending| pending.migrations.as_slice()),
        keys: pending.and_then(|pending| pending.keys.as_ref()),
        package_bytes: pending.map(|pending| pending.package_bytes),
        error: pending.and_then(|pending| pending.error.as_deref()),
    }
}
