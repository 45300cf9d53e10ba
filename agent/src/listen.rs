//! Where the agent listens, and to whom.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::Settings;
use daemon::server::{Server, Transport};
use protocol::Failure;
use tokio::net::TcpListener;

use crate::{Agent, routes};

/// Who holds no session by then is dropped.
const PROVE_WITHIN: Duration = Duration::from_secs(60);

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
pub async fn serve(listener: TcpListener, agent: &Arc<Agent>) {
    let allowed = agent.settings.agent_allow.clone();
    let server = Server {
        transport: Transport::Tls(agent.certificate.server_config()),
        allow: Box::new(move |address| allowed.is_empty() || allowed.iter().any(|network| network.contains(&address))),
        prove_within: Some(PROVE_WITHIN),
    };
    server.serve(listener, routes::router(agent.clone()), agent.control.clone()).await;
}
