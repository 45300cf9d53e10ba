//! Letting others in: who may, how many at once, how long each phase of a connection may take, with TLS or without.
//!
//! Agent and portal serve by this. Every request carries its [`Peer`] and its [`Connection`] as extensions.

mod certificate;
mod connections;
mod minimum_rate;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::Control;
pub use certificate::Certificate;
pub use connections::Connection;
use connections::Connections;
use minimum_rate::MinimumRate;

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// From a connection's start, or the answer before, to a request's last header.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
const LARGEST_HEADERS: usize = 64 << 10;
/// At a stop, what is under way may end within this; the supervisor waits for ten seconds.
const FINISH_WITHIN: Duration = Duration::from_secs(8);
/// The first byte of a TLS connection: a record that holds a handshake.
const TLS_HANDSHAKE: u8 = 22;

/// Who is let in, and how they talk.
pub struct Server {
    pub transport: Transport,
    /// Whether an address may connect at all.
    pub allow: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// Who has proved nothing by then is dropped; `None`: nobody has to.
    pub prove_within: Option<Duration>,
}

#[derive(Clone)]
pub enum Transport {
    Plain,
    /// As [`Certificate::server_config`] has it.
    Tls(Arc<ServerConfig>),
    /// Whatever the other side begins with; the routes see by [`Peer::secure`] which it is.
    Either(Arc<ServerConfig>),
}

/// Who is at the other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// The address of this machine that was asked.
    pub local: SocketAddr,
    /// By TLS.
    pub secure: bool,
}

impl Peer {
    /// A program on this very machine.
    pub fn is_here(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

impl Server {
    /// Until the process is told to stop; what is under way then has some seconds to end.
    pub async fn serve(self, listener: TcpListener, router: Router, control: Arc<Control>) {
        let connections = Connections::new(self.prove_within);
        let mut tasks = JoinSet::new();
        let mut sweep = tokio::time::interval(Duration::from_secs(1));
        loop {
            let (stream, address) = tokio::select! {
                () = control.stopped() => break,
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
            if !(self.allow)(address.ip().to_canonical()) {
                tracing::info!(%address, "an address that is not allowed was turned away");
                continue;
            }
            let Some(connection) = connections.admit(address.ip()) else {
                tracing::warn!(%address, "too many connections; one was turned away");
                continue;
            };
            let dropped = connection.on_drop();
            let (transport, router, control) = (self.transport.clone(), router.clone(), control.clone());
            tasks.spawn(async move {
                let serving = serve_connection(stream, address, transport, router, control, Arc::new(connection));
                tokio::select! {
                    () = dropped.wait() => tracing::debug!(%address, "an idle connection made room"),
                    outcome = serving => {
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
}

async fn serve_connection(
    stream: TcpStream,
    address: SocketAddr,
    transport: Transport,
    router: Router,
    control: Arc<Control>,
    connection: Arc<Connection>,
) -> io::Result<()> {
    // Small answers are meant for now, not for when a packet is full.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let tls = match transport {
        Transport::Plain => None,
        Transport::Tls(config) => Some(config),
        Transport::Either(config) => {
            let mut first = [0];
            handshake(stream.peek(&mut first), &control).await?;
            (first[0] == TLS_HANDSHAKE).then_some(config)
        }
    };
    let peer = Peer { address, local, secure: tls.is_some() };
    let stream = MinimumRate::new(stream);
    match tls {
        None => serve_requests(stream, peer, connection, router, control).await,
        Some(config) => {
            let stream = handshake(TlsAcceptor::from(config).accept(stream), &control).await?;
            serve_requests(stream, peer, connection, router, control).await
        }
    }
}

/// Whoever has not said anything yet is no reason to stop later.
async fn handshake<T>(step: impl Future<Output = io::Result<T>>, control: &Control) -> io::Result<T> {
    tokio::select! {
        done = tokio::time::timeout(HANDSHAKE_WITHIN, step) => done.unwrap_or(Err(io::ErrorKind::TimedOut.into())),
        () = control.stopped() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

async fn serve_requests(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    connection: Arc<Connection>,
    router: Router,
    control: Arc<Control>,
) -> io::Result<()> {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(connection.clone());
        router.clone().oneshot(request)
    });
    let mut server = http1::Builder::new();
    // Without a timer hyper ignores its header timeout.
    server.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(LARGEST_HEADERS);
    let mut serving = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        outcome = serving.as_mut() => return outcome.map_err(io::Error::other),
        () = control.stopped() => serving.as_mut().graceful_shutdown(),
    }
    serving.await.map_err(io::Error::other)
}
