//! Accepting connections: who may, how many, and how long each phase may take.

pub mod certificate;
pub mod connections;
mod minimum_rate;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use config::Settings;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use protocol::Failure;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::{Agent, routes};
use connections::{Connection, Connections};
use minimum_rate::MinimumRate;

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// From a connection's start, or the answer before, to a request's last header.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
const LARGEST_HEADERS: usize = 64 << 10;
/// At a stop, what is under way may end within this; the supervisor waits for ten seconds.
const FINISH_WITHIN: Duration = Duration::from_secs(8);

/// # Errors
/// A port in use, an address that is not this machine's.
pub async fn bind(settings: &Settings) -> Result<TcpListener, Failure> {
    let address = SocketAddr::new(settings.agent_bind, settings.agent_port);
    daemon::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "stop the program that uses the port, or set another AGENT_PORT in config/config.txt"
            }
            io::ErrorKind::PermissionDenied => "set an AGENT_PORT above 1023 in config/config.txt",
            _ => "check AGENT_BIND and AGENT_PORT in config/config.txt",
        };
        Failure::failed(format!("could not listen at {address}: {error}; {advice}"))
    })
}

/// Until the process is told to stop.
pub async fn serve(listener: TcpListener, agent: Arc<Agent>, connections: Arc<Connections>) {
    let acceptor = TlsAcceptor::from(agent.certificate.server_config());
    let router = routes::router(agent.clone());
    let mut tasks = JoinSet::new();
    let mut sweep = tokio::time::interval(Duration::from_secs(1));
    loop {
        let (stream, address) = tokio::select! {
            () = agent.control.stopped() => break,
            _ = sweep.tick() => {
                connections.drop_overdue();
                continue;
            }
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: those in use come back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        if !is_allowed(&agent.settings, address) {
            tracing::info!(%address, "an address that AGENT_ALLOW does not name was turned away");
            continue;
        }
        let Some(connection) = connections.admit(address.ip()) else {
            tracing::warn!(%address, "too many connections; one was turned away");
            continue;
        };
        let (acceptor, router, agent) = (acceptor.clone(), router.clone(), agent.clone());
        tasks.spawn(async move {
            let connection = Arc::new(connection);
            tokio::select! {
                () = connection.dropped() => tracing::debug!(%address, "an idle connection made room"),
                outcome = serve_connection(stream, address, acceptor, router, agent, connection.clone()) => {
                    if let Err(error) = outcome {
                        tracing::debug!(%address, %error, "a connection ended");
                    }
                }
            }
        });
    }
    drop(listener);
    let finished = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH_WITHIN, finished).await.is_err() {
        tracing::info!("open connections are cut off");
    }
}

fn is_allowed(settings: &Settings, address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    settings.agent_allow.is_empty() || settings.agent_allow.iter().any(|network| network.contains(&ip))
}

async fn serve_connection(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    router: axum::Router,
    agent: Arc<Agent>,
    connection: Arc<Connection>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = MinimumRate::new(stream);
    let stream = tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    let service = {
        let connection = connection.clone();
        hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(address);
            request.extensions_mut().insert(connection.clone());
            router.clone().oneshot(request)
        })
    };
    let mut server = http1::Builder::new();
    // Without a timer hyper ignores its header timeout.
    server.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(LARGEST_HEADERS);
    let mut serving = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        outcome = serving.as_mut() => return outcome.map_err(io::Error::other),
        () = agent.control.stopped() => serving.as_mut().graceful_shutdown(),
    }
    serving.await.map_err(io::Error::other)
}
