//! The operator's pages: rendered here, live over server-sent events, with every asset in the executable.

mod assets;
mod client;
mod feed;
mod language;
mod live;
mod middleware;
mod numbers;
mod pages;
mod plant_link;
mod query;
mod refusal;
mod routes;
mod sessions;
mod supervisor;
mod update;
mod verdict;
mod visitor;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{InstallRoot, Language, Settings};
use daemon::server::{Certificate, Server, Transport};
use daemon::{Control, Health, Metrics, Readiness};
use protocol::Failure;
use protocol::control::{FromChild, PlantStatus, Role};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::live::Live;
use crate::middleware::KnownHosts;
use crate::plant_link::PlantLink;
use crate::sessions::Sessions;
use crate::update::arrivals::Arrivals;

pub use crate::routes::router;
pub use crate::supervisor::Supervisor;

/// The supervisor says how the plant is about once a second.
const NEWS_WITHIN: Duration = Duration::from_secs(3);

/// What the supervisor last said; `None` without one.
pub type PlantStatusFeed = watch::Receiver<Option<Box<PlantStatus>>>;

/// What all pages share.
pub struct Portal {
    language: Language,
    hosts: KnownHosts,
    /// Other machines may look, and only by TLS.
    on_network: bool,
    control: Arc<Control>,
    supervisor: Arc<dyn Supervisor>,
    status: PlantStatusFeed,
    live: Live,
    link: PlantLink,
    sessions: Sessions,
    arrivals: Arc<Arrivals>,
    started: Instant,
}

impl Portal {
    /// Inside a runtime.
    pub fn new(
        settings: &Settings,
        control: Arc<Control>,
        supervisor: Arc<dyn Supervisor>,
        status: PlantStatusFeed,
    ) -> Self {
        let arrivals = Arc::<Arrivals>::default();
        tokio::spawn(follow(arrivals.clone(), status.clone()));
        Self {
            language: settings.language,
            hosts: KnownHosts::new(settings.portal_bind, &settings.portal_hosts),
            on_network: is_on_network(settings),
            control,
            supervisor,
            live: Live::new(status.clone()),
            link: PlantLink::new(status.clone()),
            status,
            sessions: Sessions::default(),
            arrivals,
            started: Instant::now(),
        }
    }

    fn plant_status(&self) -> Option<PlantStatus> {
        self.status.borrow().as_deref().cloned()
    }

    /// The hash of the package that waits. What is decided next is decided on no older news than that.
    fn look_what_waits(&self) -> Option<String> {
        let waiting = waiting(&self.status.borrow()).map(str::to_owned);
        self.arrivals.observe(waiting.as_deref(), Instant::now());
        waiting
    }
}

/// As long as there is somebody to say what waits.
async fn follow(arrivals: Arc<Arrivals>, mut status: PlantStatusFeed) {
    status.mark_changed();
    while status.changed().await.is_ok() {
        arrivals.observe(waiting(&status.borrow_and_update()), Instant::now());
    }
}

fn waiting(status: &Option<Box<PlantStatus>>) -> Option<&str> {
    Some(&status.as_ref()?.update.pending.as_ref()?.manifest_sha256)
}

/// Serves the pages until the process stops.
///
/// # Errors
/// A configuration that cannot be used, or an address that cannot be listened at.
pub async fn run(root: &InstallRoot) -> Result<(), Failure> {
    let settings = Settings::read(root)?;
    daemon::start_logging(&settings);
    let transport = transport(root, &settings);
    let listener = bind(&settings).await?;
    let health = Health::bind(0).await?;
    let control = Arc::new(Control::start());

    health.serve(control.clone(), Arc::new(AlwaysReady), axum::Router::new());
    let address = listener.local_addr().map_err(|error| Failure::failed(format!("lost the listener: {error}")))?;
    let scheme = if is_on_network(&settings) { "https" } else { "http" };
    control.listening(Role::Service, &format!("{scheme}://{address}"));
    control.say(&FromChild::Ready { version: daemon::version().to_owned() });

    let portal = Arc::new(Portal::new(&settings, control.clone(), control.clone(), control.watch_plant_status()));
    first_news(&control).await;
    // A page that is open in a browser has nothing to prove.
    let server = Server { transport, allow: Box::new(|_| true), prove_within: None };
    server.serve(listener, router(portal), control).await;
    Ok(())
}

fn is_on_network(settings: &Settings) -> bool {
    !settings.portal_bind.is_loopback()
}

/// What is readable on the way must not be the PIN. On this very machine nobody is on the way.
fn transport(root: &InstallRoot, settings: &Settings) -> Transport {
    if !is_on_network(settings) {
        return Transport::Plain;
    }
    let [certificate, key] = [&settings.portal_cert_file, &settings.portal_key_file].map(|file| root.resolve(file));
    // Whoever sits at this very machine needs none, and is not to lose the pages over it.
    let certificate = Certificate::load_or_wait(&certificate, &key);
    let config = certificate.server_config();
    tokio::spawn(certificate.watch());
    Transport::Either(config)
}

/// A page that knows nothing yet of the plant would only worry people. Browsers wait at the listener meanwhile.
async fn first_news(control: &Control) {
    if control.is_supervised() {
        let mut status = control.watch_plant_status();
        let _ = tokio::time::timeout(NEWS_WITHIN, status.wait_for(Option::is_some)).await;
    }
}

async fn bind(settings: &Settings) -> Result<TcpListener, Failure> {
    let address = SocketAddr::new(settings.portal_bind, settings.portal_port);
    daemon::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::failed(format!(
            "another program listens at {address} already; set another PORTAL_PORT in config/config.txt, \
             or stop the other program"
        )),
        _ => Failure::failed(format!("could not listen at {address}, from PORTAL_BIND and PORTAL_PORT: {error}")),
    })
}

/// The portal needs nobody: whatever is down, its pages are there to say so.
struct AlwaysReady;

impl Readiness for AlwaysReady {
    fn reasons(&self) -> Vec<String> {
        Vec::new()
    }

    fn metrics(&self, _: &mut Metrics) {}
}
