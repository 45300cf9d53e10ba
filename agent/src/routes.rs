//! All routes on one screen.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt as _;
use updater::package::Limits;

use crate::{Agent, exchange, session};

pub fn router(agent: Arc<Agent>) -> Router {
    let answered_soon = Router::new()
        .route("/data/export", get(exchange::export::export).head(no_such_method))
        .route("/status", get(exchange::status::status))
        .route_layer(middleware::from_fn(bounded_answer));
    let in_session = answered_soon
        // Takes as long as the package takes to arrive; bounds that itself.
        .route("/update", post(exchange::update::update))
        .route_layer(middleware::from_fn_with_state(agent.clone(), session::require_token));
    Router::new()
        .route("/auth/challenge", get(session::challenge))
        .route("/auth", post(session::authenticate))
        .route_layer(middleware::from_fn(bounded_answer))
        .merge(in_session)
        .fallback(async || refusal(StatusCode::NOT_FOUND, "no such path"))
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::map_response(never_kept))
        .with_state(agent)
}

/// Also for `HEAD` of an export, which would record a cut and give nothing.
async fn no_such_method() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "no such method here")
}

/// An error body, as `session.md` has it.
pub fn refusal(status: StatusCode, error: &str) -> Response {
    (status, axum::Json(serde_json::json!({ "error": error }))).into_response()
}

/// Until a handler has its answer's headers; streams go on.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

async fn bounded_answer(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await;
    answered.unwrap_or_else(|_| refusal(StatusCode::SERVICE_UNAVAILABLE, "took too long"))
}

async fn never_kept(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// A body that has to be small and to arrive soon. Of one that is too large the rest is read and dropped, within limits,
/// so that the refusal reaches whoever is still sending.
pub async fn small_body(mut body: Body) -> Result<Vec<u8>, Response> {
    const LARGEST: usize = 8 << 10;
    const LARGEST_DROPPED: usize = 1 << 20;
    const WITHIN: Duration = Duration::from_secs(10);
    let (mut kept, mut seen) = (Vec::new(), 0);
    let reading = async {
        while seen <= LARGEST_DROPPED
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Ok(bytes) = frame.into_data() {
                seen += bytes.len();
                kept.extend_from_slice(&bytes[..bytes.len().min(LARGEST - kept.len())]);
            }
        }
    };
    match tokio::time::timeout(WITHIN, reading).await {
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, "body too slow")),
        Ok(()) if seen > LARGEST => Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, "body too large")),
        Ok(()) => Ok(kept),
    }
}

/// What is still sent after a refusal is read and dropped beside the answer, within limits, so that the answer arrives.
pub fn drop_rest(mut body: Body) {
    const AT_MOST: u64 = 2 * Limits::DEFAULT.package_bytes;
    const WITHIN: Duration = Duration::from_secs(120);
    tokio::spawn(tokio::time::timeout(WITHIN, async move {
        let mut dropped = 0;
        while let Some(Ok(frame)) = body.frame().await {
            dropped += frame.data_ref().map_or(0, |data| data.len() as u64);
            if dropped > AT_MOST {
                return;
            }
        }
    }));
}

/// So that handlers can name their state.
pub type AgentState = State<Arc<Agent>>;
