//! One session with a server, from finding out how it may be talked to until it ends.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use config::{InstallRoot, OpcuaNamespace, OpcuaNode, OpcuaSecurity, OpcuaSource};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use opcua_client::transport::{
    Connector, RequestRecv, SecureChannelState, StreamConnection, StreamConnector, StreamTransport,
    TransportConfiguration,
};
use opcua_client::{
    ClientBuilder, ConnectionSource, IdentityToken, Session, SessionActivity, SessionPollResult, SubscriptionActivity,
};
use opcua_core::comms::tcp_codec::TcpCodec;
use opcua_core::comms::url::hostname_port_from_url;
use opcua_core::constants::DEFAULT_OPC_UA_SERVER_PORT;
use opcua_core::sync::RwLock;
use opcua_crypto::{CertificateStore, X509Data};
use opcua_types::{
    DecodingOptions, EndpointDescription, Error, Identifier, MessageSecurityMode, NodeId, ReadValueId, StatusCode,
    TimestampsToReturn, VariableId, Variant,
};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::codec::FramedRead;

use super::guard::{Expected, Guarded};
use super::identity::{APPLICATION_URI, Identity};

const POLICIES: &str = "http://opcfoundation.org/UA/SecurityPolicy#";
/// Between two looks at a server that has nothing to tell.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// For so long a server keeps the session of a plant PC that has vanished.
const SESSION: Duration = Duration::from_secs(60);
/// Requests for news wait at the server for longer than it may be silent, or its answer would come for nothing.
const PUBLISH: Duration = Duration::from_secs(120);
/// Nodes of one request; a choice, small enough for most controllers.
pub const MOST_AT_ONCE: usize = 500;
/// What one message may hold: the values of as many nodes, each of them an array, say.
const LONGEST_ARRAY: usize = 64 << 10;
const LARGEST_MESSAGE: usize = 8 << 20;
const LARGEST_CHUNK: usize = 64 << 10;

pub struct Connection {
    pub session: Arc<Session>,
    events: BoxStream<'static, Result<SessionPollResult, StatusCode>>,
    timeout: Duration,
    url: String,
    /// When the server last told something about a subscription, if only that it lives.
    pub told_at: Instant,
}

type Reader = Guarded<ReadHalf<TcpStream>>;
type Writer = WriteHalf<TcpStream>;

/// Connections whose incoming half is guarded.
#[derive(Clone)]
struct GuardedConnector {
    url: String,
    expected: Option<Expected>,
}

impl ConnectionSource for GuardedConnector {
    type Builder = Self;

    fn get_connector(&self, _: &EndpointDescription) -> Result<Self, Error> {
        Ok(self.clone())
    }
}

impl Connector for GuardedConnector {
    type Transport = StreamTransport<Reader, Writer>;

    async fn connect(
        &self,
        channel: Arc<SecureChannelState>,
        outgoing: RequestRecv,
        configuration: TransportConfiguration,
    ) -> Result<Self::Transport, Error> {
        let expected = self.expected.clone();
        let open = move |url, options| open_guarded(url, options, expected.clone());
        StreamConnector::new(open, self.url.clone()).connect(channel, outgoing, configuration).await
    }

    fn default_endpoint(&self) -> EndpointDescription {
        EndpointDescription::from(self.url.as_str())
    }
}

async fn open_guarded(
    url: String,
    options: DecodingOptions,
    expected: Option<Expected>,
) -> Result<StreamConnection<Reader, Writer>, Error> {
    let host_and_port = hostname_port_from_url(&url, DEFAULT_OPC_UA_SERVER_PORT);
    let (host, port) = host_and_port.map_err(|status| Error::new(status, "no host in the url"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let failed = |error: std::io::Error| Error::new(StatusCode::BadCommunicationError, error.to_string());
    let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let (reader, writer) = tokio::io::split(stream);
    Ok(StreamConnection::new(FramedRead::new(Guarded::new(reader, expected), TcpCodec::new(options)), writer, url))
}

impl Connection {
    /// # Errors
    /// In words that say what the engineer can do.
    pub async fn open(source: &OpcuaSource, root: &InstallRoot) -> Result<Self, String> {
        let url = &source.url;
        // The steps have times of their own; a server that trickles passes them all.
        let most = source.timeout * 4;
        match tokio::time::timeout(most, Self::open_in(source, root)).await {
            Ok(opened) => opened.map_err(|error| format!("{url}: {error}")),
            Err(_) => Err(format!("{url}: no session within {:.0} s", most.as_secs_f64())),
        }
    }

    async fn open_in(source: &OpcuaSource, root: &InstallRoot) -> Result<Self, String> {
        let Prepared { builder, certificates } = prepare(source, root).await?;
        let client = builder.client().map_err(|mistakes| mistakes.join("; "))?;
        let mut connector = GuardedConnector { url: source.url.clone(), expected: None };
        let endpoints =
            client.get_server_endpoints_from_url(connector.clone()).await.map_err(|error| in_words(&error))?;
        let mut endpoint = choose(source.security, &endpoints)?;
        if source.security != OpcuaSecurity::None {
            Identity::of(root).check_server(source, root, &endpoint)?;
            connector.expected = Some(Expected {
                policy_uri: endpoint.security_policy_uri.as_ref().to_owned(),
                certificate: endpoint.server_certificate.as_ref().to_vec(),
            });
        }
        // It may know itself by another name than the one by which it can be reached from here.
        endpoint.endpoint_url = source.url.as_str().into();
        let user = match &source.login {
            Some(login) => IdentityToken::new_user_name(&login.user, login.password(root)?),
            None => IdentityToken::Anonymous,
        };
        let session = client.session_builder().with_connector(connector);
        let session = session.connect_to_endpoint_directly(endpoint).map_err(|error| in_words(&error))?;
        let built = session.user_identity_token(user).build(certificates);
        let (session, events) = built.map_err(|error| in_words(&error))?;
        let mut connection = Self {
            session,
            events: events.enter().boxed(),
            timeout: source.timeout,
            url: source.url.clone(),
            told_at: Instant::now(),
        };
        while !connection.next_event().await.map_err(|what| with_hint_about_trust(what, root))? {}
        Ok(connection)
    }

    /// `true` once the session is open. An error means that it is no more.
    async fn next_event(&mut self) -> Result<bool, String> {
        match self.events.next().await {
            None => Err("the server has closed the connection".to_owned()),
            Some(Err(status)) => Err(named(status)),
            Some(Ok(SessionPollResult::ConnectionLost(status))) => Err(format!("connection lost: {}", named(status))),
            Some(Ok(SessionPollResult::SessionActivity(SessionActivity::KeepAliveFailed(status)))) => {
                Err(format!("the server is not well: {}", named(status)))
            }
            Some(Ok(SessionPollResult::Subscription(activity))) => match activity {
                SubscriptionActivity::Publish => {
                    self.told_at = Instant::now();
                    Ok(false)
                }
                // It asks again; whether that helps shows in `told_at`.
                SubscriptionActivity::PublishFailed(
                    StatusCode::BadTimeout | StatusCode::BadTooManyPublishRequests | StatusCode::BadRequestTimeout,
                ) => Ok(false),
                SubscriptionActivity::PublishFailed(status) | SubscriptionActivity::FatalFailure(status) => {
                    Err(format!("the subscription has ended: {}", named(status)))
                }
            },
            Some(Ok(SessionPollResult::Reconnected(_))) => Ok(true),
            Some(Ok(_)) => Ok(false),
        }
    }

    /// Goes on a little; an error means that the session is no more.
    pub async fn drive(&mut self) -> Result<(), String> {
        self.next_event().await.map(drop).map_err(|what| format!("{}: {what}", self.url))
    }

    /// Waits for an answer, and meanwhile keeps the connection going.
    pub async fn ask<T>(&mut self, request: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
        let (url, timeout) = (self.url.clone(), self.timeout);
        let mut request = pin!(answered(&url, timeout, request));
        loop {
            tokio::select! {
                answer = &mut request => return answer,
                driven = self.drive() => driven?,
            }
        }
    }

    /// By how much the server's clock is ahead; the library has taken that off its times, though not off its device's.
    pub fn server_ahead(&self) -> Ahead {
        Ahead::of(&self.session)
    }

    /// So that the server need not keep the session until its patience ends; small ones have few.
    pub async fn leave(mut self) {
        let session = self.session.clone();
        let left = self.ask(async move { session.disconnect().await });
        let _ = tokio::time::timeout(Duration::from_secs(1), left).await;
    }
}

/// See [`Connection::server_ahead`]; in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead(pub i64);

impl Ahead {
    pub fn of(session: &Session) -> Self {
        let offset = session.encoding_context().read().options().client_offset;
        Self(offset.num_microseconds().unwrap_or(0))
    }
}

/// An answer, or within which time and from whom there is none.
pub async fn answered<T>(
    url: &str,
    timeout: Duration,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, String> {
    match tokio::time::timeout(timeout, request).await {
        Ok(answer) => answer.map_err(|error| format!("{url}: {}", in_words(&error))),
        Err(_) => Err(format!("{url}: no answer within {:.1} s", timeout.as_secs_f64())),
    }
}

/// The ids by which the server knows these nodes today.
pub async fn locate(session: &Session, nodes: &[&OpcuaNode]) -> Result<Vec<Result<NodeId, String>>, Error> {
    let mut namespaces = Vec::new();
    if nodes.iter().any(|node| matches!(node.namespace, OpcuaNamespace::Uri(_))) {
        let wanted = [ReadValueId::new_value(VariableId::Server_NamespaceArray.into())];
        let read = session.read(&wanted, TimestampsToReturn::Neither, 0.0).await?;
        if let Some(Variant::Array(array)) = read.into_iter().next().and_then(|value| value.value) {
            namespaces.extend(array.values.iter().map(|uri| match uri {
                Variant::String(uri) => uri.as_ref().to_owned(),
                _ => String::new(),
            }));
        }
    }
    Ok(nodes.iter().map(|node| id_of(node, &namespaces)).collect())
}

fn id_of(node: &OpcuaNode, namespaces: &[String]) -> Result<NodeId, String> {
    let namespace = match &node.namespace {
        OpcuaNamespace::Index(index) => *index,
        OpcuaNamespace::Uri(uri) => {
            let index = namespaces.iter().position(|known| known == uri);
            let index = index.ok_or_else(|| format!("the server has no namespace {uri}"))?;
            u16::try_from(index).map_err(|_| "too many namespaces".to_owned())?
        }
    };
    let identifier: Identifier =
        node.identifier.parse().map_err(|_| format!("`{}` is no identifier", node.identifier))?;
    Ok(NodeId::new(namespace, identifier))
}

/// What the library needs before it can connect.
struct Prepared {
    builder: ClientBuilder,
    certificates: Arc<RwLock<CertificateStore>>,
}

async fn prepare(source: &OpcuaSource, root: &InstallRoot) -> Result<Prepared, String> {
    let (identity, source) = (Identity::of(root), source.clone());
    // Keys are made and files are read.
    let made = tokio::task::spawn_blocking(move || {
        if source.security != OpcuaSecurity::None {
            identity.ensure_own()?;
        }
        let folder = identity.folder_for(&source)?;
        let (mut certificates, _, _) = CertificateStore::new_with_x509_data(
            &folder,
            false,
            Some(&identity.certificate()),
            Some(&identity.key()),
            None::<X509Data>,
        );
        // A secured server's certificate is compared by us, with the one that the engineer has named; no clock need be right
        // for that.
        certificates.set_trust_unknown_certs(true);
        certificates.set_skip_verify_certs(true);
        let builder = ClientBuilder::new()
            .application_name("Plantlink collector")
            .application_uri(APPLICATION_URI)
            .product_uri("urn:plantlink")
            .session_name("Plantlink collector")
            .pki_dir(&folder)
            .certificate_path(identity.certificate())
            .private_key_path(identity.key())
            .trust_server_certs(true)
            .verify_server_certs(false)
            // Its times are put right again: `Connection::server_ahead`.
            .ignore_clock_skew(true)
            .session_retry_limit(0)
            .recreate_subscriptions(false)
            .keep_alive_interval(KEEP_ALIVE)
            .request_timeout(source.timeout)
            .publish_timeout(PUBLISH)
            .max_array_length(LONGEST_ARRAY)
            .max_message_size(LARGEST_MESSAGE)
            .max_chunk_size(LARGEST_CHUNK)
            .max_incoming_chunk_size(LARGEST_CHUNK)
            .max_chunk_count(LARGEST_MESSAGE / LARGEST_CHUNK)
            .session_timeout(SESSION.as_millis() as u32);
        Ok(Prepared { builder, certificates: Arc::new(RwLock::new(certificates)) })
    });
    made.await.map_err(|error| error.to_string())?
}

/// The endpoint of this security.
fn choose(security: OpcuaSecurity, endpoints: &[EndpointDescription]) -> Result<EndpointDescription, String> {
    let (policy, mode) = match security {
        OpcuaSecurity::None => ("None", MessageSecurityMode::None),
        OpcuaSecurity::Basic256Sha256 => ("Basic256Sha256", MessageSecurityMode::SignAndEncrypt),
    };
    let policy_of = |endpoint: &EndpointDescription| {
        let uri = endpoint.security_policy_uri.as_ref();
        uri.strip_prefix(POLICIES).unwrap_or(uri).to_owned()
    };
    let chosen =
        endpoints.iter().find(|endpoint| policy_of(endpoint) == policy && endpoint.security_mode == mode).cloned();
    chosen.ok_or_else(|| {
        let offered =
            endpoints.iter().map(|endpoint| format!("{} ({:?})", policy_of(endpoint), endpoint.security_mode));
        let mut offered: Vec<String> = offered.collect();
        offered.dedup();
        format!("the server offers no security {policy} ({mode:?}), but {}", offered.join(", "))
    })
}

/// As the standard calls it, which is what a search finds.
pub fn named(status: StatusCode) -> String {
    status.to_string()
}

fn in_words(error: &Error) -> String {
    let text = error.to_string();
    if text.is_empty() { named(error.status()) } else { text }
}

/// What the engineer has to do where the server does not know us.
fn with_hint_about_trust(what: String, root: &InstallRoot) -> String {
    let is_of_trust = ["BadSecurityChecksFailed", "BadCertificate"].iter().any(|name| what.contains(name));
    if is_of_trust {
        let own = Identity::of(root).certificate();
        return format!("{what}; perhaps the server does not trust this plant yet: give it {}", own.display());
    }
    what
}
