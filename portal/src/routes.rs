use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::pages::{overview, readings};
use crate::{Portal, assets, feed, middleware, pages, visitor};

/// Every address that the portal answers.
pub fn router(portal: Arc<Portal>) -> Router {
    let routes = Router::new()
        .route("/", get(overview::page))
        .route("/readings", get(readings::page))
        .route("/events", get(feed::events))
        .route("/language", get(visitor::choose_language))
        .route("/assets/{build}/{file}", get(assets::asset))
        .fallback(pages::not_found)
        .with_state(portal.clone());
    middleware::guard(routes, portal)
}
