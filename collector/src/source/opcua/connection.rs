//! One session with a server, from finding out how it may be talked to until it ends.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use config::{InstallRoot, OpcuaNamespace, OpcuaNode, OpcuaSecurity, OpcuaSource};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use opcua_client::{
    Client, ClientBuilder, IdentityToken, Session, SessionActivity, SessionPollResult, SubscriptionActivity,
};
use opcua_types::{
    EndpointDescription, Error, Identifier, MessageSecurityMode, NodeId, ReadValueId, StatusCode, TimestampsToReturn,
    VariableId, Variant,
};

use super::identity::{APPLICATION_URI, Folder};

const POLICIES: &str = "http://opcfoundation.org/UA/SecurityPolicy#";
/// Between two looks at a server that has nothing to tell.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// For so long a server keeps the session of a plant PC that has vanished.
const SESSION: Duration = Duration::from_secs(60);
/// A server may refuse to hear of more at once.
pub const MOST_AT_ONCE: usize = 500;

pub struct Connection {
    pub session: Arc<Session>,
    events: BoxStream<'static, Result<SessionPollResult, StatusCode>>,
    timeout: Duration,
    url: String,
}

impl Connection {
    /// # Errors
    /// In words that say what the engineer can do.
    pub async fn open(source: &OpcuaSource, root: &InstallRoot) -> Result<Self, String> {
        let url = source.url.clone();
        let opening = Self::open_in(source, root);
        // The steps have times of their own; a server that trickles passes them all.
        match tokio::time::timeout(source.timeout * 4, opening).await {
            Ok(opened) => opened.map_err(|error| format!("{url}: {error}")),
            Err(_) => Err(format!("{url}: no session within {:.0} s", (source.timeout * 4).as_secs_f64())),
        }
    }

    async fn open_in(source: &OpcuaSource, root: &InstallRoot) -> Result<Self, String> {
        let mut client = client(source, root).await?;
        let endpoints =
            client.get_server_endpoints_from_url(source.url.as_str()).await.map_err(|error| plain(&error))?;
        let mut endpoint = choose(source.security, &endpoints)?;
        if source.security != OpcuaSecurity::None {
            Folder::of(root).check_server(source, root, &endpoint)?;
        }
        // It may know itself by another name than the one by which it can be reached from here.
        endpoint.endpoint_url = source.url.as_str().into();
        let identity = match &source.login {
            Some(login) => IdentityToken::new_user_name(&login.user, login.password(root)?),
            None => IdentityToken::Anonymous,
        };
        let (session, events) =
            client.connect_to_endpoint_directly(endpoint, identity).map_err(|error| plain(&error))?;
        let mut connection =
            Self { session, events: events.enter().boxed(), timeout: source.timeout, url: source.url.clone() };
        while !connection.step().await.map_err(|what| explained(what, root))? {}
        Ok(connection)
    }

    /// Whatever comes next; `true` once the session is open. An error means that it is no more.
    async fn step(&mut self) -> Result<bool, String> {
        match self.events.next().await {
            None => Err("the server has closed the connection".to_owned()),
            Some(Err(status)) => Err(named(status)),
            Some(Ok(SessionPollResult::ConnectionLost(status))) => Err(format!("connection lost: {}", named(status))),
            Some(Ok(SessionPollResult::SessionActivity(SessionActivity::KeepAliveFailed(status)))) => {
                Err(format!("the server is not well: {}", named(status)))
            }
            Some(Ok(SessionPollResult::Subscription(SubscriptionActivity::FatalFailure(status)))) => {
                Err(format!("the subscription has ended: {}", named(status)))
            }
            Some(Ok(SessionPollResult::Reconnected(_))) => Ok(true),
            Some(Ok(_)) => Ok(false),
        }
    }

    /// Goes on a little; an error means that the session is no more.
    pub async fn go_on(&mut self) -> Result<(), String> {
        self.step().await.map(drop).map_err(|what| format!("{}: {what}", self.url))
    }

    /// Waits for an answer, and meanwhile keeps the connection going.
    pub async fn ask<T>(&mut self, request: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
        let mut request = pin!(request);
        let mut too_late = pin!(tokio::time::sleep(self.timeout));
        loop {
            tokio::select! {
                answer = &mut request => return answer.map_err(|error| format!("{}: {}", self.url, plain(&error))),
                () = &mut too_late => {
                    return Err(format!("{}: no answer within {:.1} s", self.url, self.timeout.as_secs_f64()));
                }
                went_on = self.go_on() => went_on?,
            }
        }
    }

    /// The ids by which the server knows these nodes today.
    pub async fn locate(&mut self, nodes: &[&OpcuaNode]) -> Result<Vec<Result<NodeId, String>>, String> {
        let mut namespaces = Vec::new();
        if nodes.iter().any(|node| matches!(node.namespace, OpcuaNamespace::Uri(_))) {
            let wanted = [ReadValueId::new_value(VariableId::Server_NamespaceArray.into())];
            let session = self.session.clone();
            let read = self.ask(session.read(&wanted, TimestampsToReturn::Neither, 0.0)).await?;
            if let Some(Variant::Array(array)) = read.into_iter().next().and_then(|value| value.value) {
                namespaces.extend(array.values.iter().map(|uri| match uri {
                    Variant::String(uri) => uri.as_ref().to_owned(),
                    _ => String::new(),
                }));
            }
        }
        Ok(nodes.iter().map(|node| locate(node, &namespaces)).collect())
    }

    /// So that the server need not wait for us until its patience ends.
    pub async fn leave(mut self) {
        let session = self.session.clone();
        let left = self.ask(async move { session.disconnect().await });
        let _ = tokio::time::timeout(Duration::from_secs(1), left).await;
    }
}

async fn client(source: &OpcuaSource, root: &InstallRoot) -> Result<Client, String> {
    let folder = Folder::of(root);
    let (timeout, is_secured) = (source.timeout, source.security != OpcuaSecurity::None);
    // Keys are made and files are read.
    let made = tokio::task::spawn_blocking(move || {
        if is_secured {
            folder.ensure_own()?;
        }
        let builder = ClientBuilder::new()
            .application_name("Plantlink collector")
            .application_uri(APPLICATION_URI)
            .product_uri("urn:plantlink")
            .session_name("Plantlink collector")
            .pki_dir(folder.path())
            .certificate_path(folder.certificate())
            .private_key_path(folder.key())
            // We have compared it ourselves, with the one that the engineer has named; the clock need not be right for that.
            .trust_server_certs(true)
            .verify_server_certs(false)
            .ignore_clock_skew(true)
            .session_retry_limit(0)
            .recreate_subscriptions(false)
            .keep_alive_interval(KEEP_ALIVE)
            .request_timeout(timeout)
            .session_timeout(SESSION.as_millis() as u32);
        builder.client().map_err(|mistakes| mistakes.join("; "))
    });
    made.await.map_err(|error| error.to_string())?
}

/// The most secured endpoint of this policy.
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

fn locate(node: &OpcuaNode, namespaces: &[String]) -> Result<NodeId, String> {
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

/// As the standard calls it, which is what a search finds.
pub fn named(status: StatusCode) -> String {
    status.to_string()
}

fn plain(error: &Error) -> String {
    explain(named(error.status()), error.to_string())
}

fn explain(name: String, whole: String) -> String {
    if whole.is_empty() { name } else { whole }
}

/// What the engineer has to do where the server does not know us.
fn explained(what: String, root: &InstallRoot) -> String {
    let is_of_trust = ["BadSecurityChecksFailed", "BadCertificate"].iter().any(|name| what.contains(name));
    if is_of_trust {
        let own = Folder::of(root).certificate();
        return format!("{what}; perhaps the server does not trust this plant yet: give it {}", own.display());
    }
    what
}
