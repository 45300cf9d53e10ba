//! The way to a PostgreSQL server: TCP, TLS over it, or a Unix socket.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use postgres::Config;
use postgres::config::{Host, SslMode};
use postgres_protocol::message::frontend;
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};

use super::messages::broken;
use crate::error::StoreError;
use crate::postgres_url::{CONNECT, DEAD, Target};

pub enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Where a server may be.
pub enum Address {
    /// With the name that its certificate has to have.
    Tcp(SocketAddr, Option<String>),
    #[cfg(unix)]
    Unix(PathBuf),
}

/// Every address that the URL's hosts have, in their order.
pub fn addresses(config: &Config) -> Vec<Result<Address, StoreError>> {
    let (hosts, numbers, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let mut addresses = Vec::new();
    for at in 0..hosts.len().max(numbers.len()) {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let name = match hosts.get(at) {
            Some(Host::Tcp(name)) => Some(name.clone()),
            #[cfg(unix)]
            Some(Host::Unix(folder)) => {
                addresses.push(Ok(Address::Unix(folder.join(format!(".s.PGSQL.{port}")))));
                continue;
            }
            None => None,
        };
        if let Some(number) = numbers.get(at) {
            addresses.push(Ok(Address::Tcp((*number, port).into(), name)));
        } else if let Some(name) = name {
            match (name.as_str(), port).to_socket_addrs() {
                Ok(found) => addresses.extend(found.map(|found| Ok(Address::Tcp(found, Some(name.clone()))))),
                Err(error) => addresses.push(Err(StoreError::Unreachable(format!("{name}: {error}")))),
            }
        }
    }
    addresses
}

/// # Errors
/// [`StoreError::Unreachable`], also for a certificate that is not the authority's.
pub fn connect(address: &Address, target: &Target) -> Result<Socket, StoreError> {
    let unreachable = |error: io::Error| StoreError::Unreachable(format!("could not connect: {error}"));
    match address {
        #[cfg(unix)]
        Address::Unix(path) => {
            let socket = Socket::Unix(UnixStream::connect(path).map_err(unreachable)?);
            socket.answers_within(CONNECT).map_err(unreachable)?;
            Ok(socket)
        }
        Address::Tcp(address, name) => {
            let connect = config_timeout(&target.config);
            let stream = TcpStream::connect_timeout(address, connect).map_err(unreachable)?;
            keep_alive(&stream, &target.config).map_err(unreachable)?;
            let socket = Socket::Tcp(stream);
            socket.answers_within(connect).map_err(unreachable)?;
            socket.secured(target, name.as_deref())
        }
    }
}

fn config_timeout(config: &Config) -> std::time::Duration {
    config.get_connect_timeout().copied().filter(|timeout| !timeout.is_zero()).unwrap_or(CONNECT)
}

/// As the library does it on its connections.
fn keep_alive(stream: &TcpStream, config: &Config) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(config.get_tcp_user_timeout().copied())?;
    if !config.get_keepalives() {
        return Ok(());
    }
    let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        keepalive = keepalive.with_retries(retries);
    }
    socket.set_tcp_keepalive(&keepalive)
}

impl Socket {
    /// The server has let us in: from here on it may take its time with a statement.
    pub fn started(&self) -> Result<(), StoreError> {
        self.answers_within(DEAD).map_err(|error| broken(&error))
    }

    fn answers_within(&self, timeout: std::time::Duration) -> io::Result<()> {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref(),
            #[cfg(unix)]
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                return stream.set_write_timeout(Some(timeout));
            }
        };
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))
    }

    /// Over TLS, if the URL's `sslmode` and the server will have it.
    fn secured(mut self, target: &Target, name: Option<&str>) -> Result<Self, StoreError> {
        let mode = target.config.get_ssl_mode();
        if mode == SslMode::Disable {
            return Ok(self);
        }
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        // One byte and no more: what came with it in clear must not be taken for something said under TLS.
        let mut answer = [0];
        self.write_all(&request).and_then(|()| self.read_exact(&mut answer)).map_err(|error| broken(&error))?;
        match (self, answer, name) {
            (Self::Tcp(stream), [b'S'], Some(name)) => {
                let name = ServerName::try_from(name.to_owned())
                    .map_err(|_| StoreError::Configuration(format!("{name} is no name that a certificate can have")))?;
                let connection = ClientConnection::new(Arc::new(target.tls.clone()), name)
                    .map_err(|error| StoreError::Unreachable(format!("TLS: {error}")))?;
                let mut stream = StreamOwned::new(connection, stream);
                while stream.conn.is_handshaking() {
                    stream
                        .conn
                        .complete_io(&mut stream.sock)
                        .map_err(|error| StoreError::Unreachable(format!("TLS: {error}")))?;
                }
                Ok(Self::Tls(Box::new(stream)))
            }
            (_, [b'S'], _) => Err(StoreError::Configuration("DATABASE_URL: TLS needs the server's name".into())),
            (_, _, _) if mode == SslMode::Require => {
                Err(StoreError::Unreachable("the server does not support TLS".into()))
            }
            (plain, _, _) => Ok(plain),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
