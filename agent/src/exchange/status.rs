//! `GET /status`: what a fleet overview needs.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use protocol::Timestamp;
use serde_json::json;
use updater::update_log;

use crate::routes::AgentState;

/// `GET /status`
pub async fn status(State(agent): AgentState) -> Response {
    let plant = agent.control.plant_status();
    let collected = plant.as_ref().and_then(|plant| plant.collected.clone()).unwrap_or_default();
    let services: BTreeMap<String, &str> =
        plant.iter().flat_map(|plant| &plant.children).map(|child| (child.name.clone(), child.state.word())).collect();
    let now = Timestamp::now();
    Json(json!({
        "agent_id": agent.certificate.fingerprint(),
        "version": plant.as_ref().map_or_else(|| daemon::version().to_owned(), |plant| plant.version.clone()),
        "phase": plant.as_ref().map_or("committed", |plant| plant.phase.as_str()),
        "pending_version": plant.as_ref().and_then(|plant| plant.pending_version.clone()),
        "last_update": update_log::newest(&agent.root, 1).pop(),
        "licensed": plant.as_ref().is_none_or(|plant| plant.licensed),
        "readings": {
            "last_time": collected.last_time,
            "spool_readings": collected.spool_readings,
            "horizon_lag_seconds": agent.account.horizon_lag_seconds(),
        },
        "services": services,
        "agent_time": now.with_millis(),
    }))
    .into_response()
}
