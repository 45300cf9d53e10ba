use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Set by the supervisor: the port that this child had before, for one whose configuration says that any will do.
pub const LAST_PORT: &str = "PLANTLINK_LAST_PORT";

/// Binds `address`; with port 0 the one from before if it is free, so that whoever has a page open finds it again after a
/// restart, else any.
///
/// # Errors
/// Those of the operating system.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let last = std::env::var(LAST_PORT).ok().and_then(|port| port.parse().ok());
    if let Some(port) = last.filter(|_| address.port() == 0)
        && let Ok(listener) = TcpListener::bind(SocketAddr::new(address.ip(), port)).await
    {
        return Ok(listener);
    }
    TcpListener::bind(address).await
}
