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

use axum::serve::ListenerExt as _;
use config::{InstallRoot, Language, Settings};
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

/// How long open connections may take to end.
const DRAIN: Duration = Duration::from_secs(5);
/// The supervisor says how the plant is about once a second.
const NEWS_WITHIN: Duration = Duration::from_secs(3);

/// What the supervisor last said; `None` without one.
pub type PlantStatusFeed = watch::Receiver<Option<Box<PlantStatus>>>;

/// What all pages share.
pub struct Portal {
    language: Language,
    hosts: KnownHosts,
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
    let listener = bind(&settings).await?;
    let health = Health::bind(0).await?;
    let control = Arc::new(Control::start());

    health.serve(control.clone(), Arc::new(AlwaysReady), axum::Router::new());
    let address = listener.local_addr().map_err(|error| Failure::failed(format!("lost the listener: {error}")))?;
    control.listening(Role::Service, &format!("http://{address}"));
    control.say(&FromChild::Ready { version: daemon::version().to_owned() });

    let portal = Arc::new(Portal::new(&settings, control.clone(), control.clone(), control.watch_plant_status()));
    first_news(&control).await;
    serve(listener, portal, &control).await
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
    if !address.ip().is_loopback() {
        return Err(Failure::configuration(format!(
            "PORTAL_BIND is {}, but the portal only listens on loopback as yet, since it has no TLS; \
             set PORTAL_BIND = 127.0.0.1 in config/config.txt",
            address.ip()
        )));
    }
    daemon::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::failed(format!(
            "another program listens at {address} already; set another PORTAL_PORT in config/config.txt, \
             or stop the other program"
        )),
        _ => Failure::failed(format!("could not listen at {address}, from PORTAL_BIND and PORTAL_PORT: {error}")),
    })
}

async fn serve(listener: TcpListener, portal: Arc<Portal>, control: &Arc<Control>) -> Result<(), Failure> {
    // Live values are small and meant for now, not for when a packet is full.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let stopped = {
        let control = control.clone();
        async move { control.stopped().await }
    };
    let pages = router(portal).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, pages).with_graceful_shutdown(stopped).into_future();
    let overdue = async {
        control.stopped().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served.map_err(|error| Failure::failed(format!("could not serve the pages: {error}"))),
        () = overdue => {
            tracing::warn!("connections were still open after {DRAIN:?}; they are cut");
            Ok(())
        }
    }
}

/// The portal needs nobody: whatever is down, its pages are there to say so.
struct AlwaysReady;

impl Readiness for AlwaysReady {
    fn reasons(&self) -> Vec<String> {
        Vec::new()
    }

    fn metrics(&self, _: &mut Metrics) {}
}
