use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::pages::{
    events as event_log, help, overview, readings, sessions as past_sessions, settings, trend, update as update_page,
};
use crate::update::{approval, progress, status};
use crate::{Portal, assets, feed, middleware, pages, sessions, visitor};

/// More than any question here takes.
const BODY_LIMIT_BYTES: usize = 8 * 1024;

/// Every address that the portal answers; to be served with the peer's address.
pub fn router(portal: Arc<Portal>) -> Router {
    let routes = Router::new()
        .route("/", get(overview::page))
        .route("/readings", get(readings::page))
        .route("/trend", get(trend::page))
        .route("/trend.svg", get(trend::picture))
        .route("/history.csv", get(trend::file))
        .route("/update", get(update_page::page))
        .route("/sessions", get(past_sessions::page))
        .route("/log", get(event_log::page))
        .route("/settings", get(settings::page))
        .route("/help", get(help::page))
        .route("/events", get(feed::events))
        .route("/language", get(visitor::choose_language))
        .route("/assets/{build}/{file}", get(assets::asset))
        .route("/api/trend", get(trend::data))
        .route("/api/session", post(sessions::begin))
        .route("/api/pin", post(settings::change_pin))
        .route("/api/update/status", get(status::status))
        .route("/api/update/apply", post(approval::apply))
        .route("/api/update/later", post(approval::later))
        .route("/api/update/progress", get(progress::progress))
        .fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .with_state(portal.clone());
    middleware::guard(routes, portal)
}
