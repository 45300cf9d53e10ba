use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use protocol::Failure;
use protocol::control::Role;
use tokio::net::TcpListener;

use crate::{Control, Metrics};

/// What a daemon tells its supervisor and the plant's monitoring. Neither call may wait for a database.
pub trait Readiness: Send + Sync + 'static {
    /// Why it cannot do its work; empty when it can.
    fn reasons(&self) -> Vec<String>;

    fn metrics(&self, metrics: &mut Metrics);

    /// Metrics of others that are told together with its own, as text.
    fn others_metrics(self: Arc<Self>) -> Pin<Box<dyn Future<Output = String> + Send>> {
        Box::pin(std::future::ready(String::new()))
    }
}

/// The endpoint that monitoring expects, on loopback.
pub struct Health {
    listener: TcpListener,
    address: SocketAddr,
}

impl Health {
    /// # Errors
    /// If the port is taken.
    pub async fn bind(port: u16) -> Result<Self, Failure> {
        let busy = |error| {
            let advice = "stop the program that uses the port, or set another METRICS_PORT in config/config.txt";
            Failure::failed(format!("could not listen at 127.0.0.1:{port} for monitoring: {error}; {advice}"))
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(busy)?;
        let address = listener.local_addr().map_err(busy)?;
        Ok(Self { listener, address })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until the process stops, and announces the address.
    pub fn serve(self, control: Arc<Control>, readiness: Arc<dyn Readiness>, more: Router) {
        control.listening(Role::Health, &self.url());
        let (ready, metrics) = (readiness.clone(), readiness);
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(async move || readyz(ready.as_ref())))
            .route("/metrics", get(async move || prometheus(metrics).await))
            .merge(more)
            .layer(axum::middleware::from_fn(known_host));
        tokio::spawn(async move {
            let stopped = async move { control.stopped().await };
            if let Err(error) = axum::serve(self.listener, router).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the health endpoint ended");
            }
        });
    }
}

/// A page elsewhere may have its own name point to this machine; what it then asks for is refused.
async fn known_host(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let name = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    match name {
        Some("127.0.0.1" | "localhost" | "[::1]") => next.run(request).await,
        _ => (StatusCode::MISDIRECTED_REQUEST, "ask for 127.0.0.1\n").into_response(),
    }
}

fn readyz(readiness: &dyn Readiness) -> Response {
    let reasons = readiness.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn prometheus(readiness: Arc<dyn Readiness>) -> Response {
    let mut metrics = Metrics::default();
    readiness.metrics(&mut metrics);
    metrics.append(&readiness.others_metrics().await);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.into_text()).into_response()
}
