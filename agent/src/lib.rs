//! The agent: a TLS server that only ever answers.
//!
//! [`daemon::server`] accepts, limits and times connections; [`session`] says who is calling; [`exchange`] is what a session is
//! then used for, one module each. All routes stand in [`routes`].

mod account;
mod exchange;
mod listen;
mod routes;
mod session;

use std::sync::{Arc, Mutex, PoisonError};

use axum::routing::get;
use axum::{Json, Router};
use config::{InstallRoot, Settings};
use daemon::server::Certificate;
use daemon::{Control, Health};
use protocol::control::{FromChild, Role};
use protocol::signing::PublicKey;
use protocol::{Failure, Timestamp};
use readings::StoreError;
use updater::database::ActiveDatabase;

use account::Account;
use exchange::cuts::Cuts;
use exchange::export::Exporter;
use exchange::update::Deliveries;
use session::Sessions;

/// So many are shown.
const PAST_SESSIONS: usize = 200;

/// What every request may need.
pub(crate) struct Agent {
    pub root: InstallRoot,
    pub settings: Settings,
    pub control: Arc<Control>,
    pub certificate: Arc<Certificate>,
    pub sessions: Sessions,
    pub exporter: Exporter,
    pub deliveries: Deliveries,
    pub account: Arc<Account>,
    /// Held by whoever tells the supervisor of exports.
    telling: Mutex<()>,
}

/// Runs until it is told to stop; what is being exported then has some seconds to end.
///
/// # Errors
/// Bad configuration, an unusable key or certificate, a port in use.
pub async fn run(root: &InstallRoot) -> Result<(), Failure> {
    let started = Timestamp::now();
    let settings = Settings::read(root)?;
    daemon::start_logging(&settings);
    let keys = PublicKey::read_all(&root.resolve(&settings.server_public_key_file))?;
    let database = ActiveDatabase::of(root)?;
    std::fs::create_dir_all(root.agent_state())
        .map_err(|error| durable::name_error("create", &root.agent_state(), error))?;
    let control = Arc::new(Control::start());
    let certificate =
        Certificate::load(&root.resolve(&settings.agent_cert_file), &root.resolve(&settings.agent_key_file))?;
    let account = Arc::new(Account::new(control.clone()));
    let cuts = Cuts::open(&root.agent_state().join("exports.db"))?;
    let sessions = Sessions::new(keys, &settings, root, started, account.clone());
    if control.is_on_trial() {
        look_at(&database, root).await?;
    }
    let strange = Arc::new(Mutex::new(None));
    tokio::spawn(stop_at_strange_schema(database.clone(), root.clone(), control.clone(), strange.clone()));
    let exporter = Exporter::new(database, root.clone(), cuts, control.clone());
    let deliveries = Deliveries::new(root);
    let root = root.clone();
    let agent = Arc::new(Agent {
        root,
        settings,
        control,
        certificate,
        sessions,
        exporter,
        deliveries,
        account,
        telling: Mutex::default(),
    });

    let listener = listen::bind(&agent.settings).await?;
    let address = listener.local_addr().map_err(|error| Failure::failed(error.to_string()))?;
    let of_sessions = agent.clone();
    let past = async move || Json(of_sessions.sessions.past(PAST_SESSIONS));
    let more = Router::new().route("/sessions", get(past));
    Health::bind(0).await?.serve(agent.control.clone(), agent.account.clone(), more);
    agent.control.listening(Role::Service, &format!("https://{address}"));
    agent.control.say(&FromChild::Ready { version: daemon::version().to_owned() });
    agent.tell_exported();

    tokio::spawn(agent.certificate.clone().watch());
    tokio::spawn(session::end_idle_sessions(agent.clone()));
    listen::serve(listener, &agent).await;
    agent.sessions.end_all();
    tracing::info!("stopped");
    let strange = strange.lock().unwrap_or_else(PoisonError::into_inner).take();
    strange.map_or(Ok(()), Err)
}

impl Agent {
    /// Tells the supervisor who has fetched what: for the portal, and for retention. Waits for the disk.
    fn tell_exported(&self) {
        // Of two that tell, the later one has read later.
        let _turn = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        match self.exporter.told() {
            Ok(exported) => self.control.say(&FromChild::Exported(self.account.told(exported))),
            Err(error) => tracing::warn!(%error, "who has fetched what could not be read"),
        }
    }
}

/// Whether exports can be read.
async fn look_at(database: &ActiveDatabase, root: &InstallRoot) -> Result<(), StoreError> {
    let (database, root) = (database.clone(), root.clone());
    let looked = tokio::task::spawn_blocking(move || database.open(root.path())?.head().map(|_| ())).await;
    looked.unwrap_or_else(|error| Err(StoreError::Refused(format!("looking at the database failed: {error}"))))
}

/// A database of another schema than this version's is none of its own. One that does not answer only keeps back exports.
async fn stop_at_strange_schema(
    database: ActiveDatabase,
    root: InstallRoot,
    control: Arc<Control>,
    strange: Arc<Mutex<Option<Failure>>>,
) {
    if let Err(error @ StoreError::Schema(_)) = look_at(&database, &root).await {
        *strange.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.into());
        control.stop();
    }
}
