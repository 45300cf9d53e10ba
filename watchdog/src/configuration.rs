//! The configuration as it was last found good. What a person changes in it is taken up while the plant runs, by the
//! programs that it concerns; a mistake is shown, and stops nothing.
//!
//! A running collector takes up `sources.toml` itself, source by source.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::{Credentials, InstallRoot, Mistakes, Settings};
use durable::{Stamp, stamp};
use protocol::Failure;
use protocol::signing::PublicKey;

const LOOK_EVERY: Duration = Duration::from_millis(800);

pub struct Configuration {
    root: InstallRoot,
    state: Mutex<State>,
}

struct State {
    taken: Taken,
    /// Of the files as they were when `taken` was read, or when they were found wrong since.
    judged: Stamps,
    /// When they were last looked at: a file that still changes is being written.
    seen: Stamps,
    looked: Instant,
    mistake: Option<String>,
}

#[derive(Clone)]
struct Taken {
    settings: Arc<Settings>,
    /// Of `config.txt`.
    text: Arc<str>,
    database_url: Option<Arc<str>>,
    /// Of the operator. Whoever has shown another is to show this one.
    pin_hash: Option<String>,
    /// Who may open a session.
    keys: Vec<u8>,
}

type Stamps = Vec<(PathBuf, Stamp)>;

/// What a look at the files has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// A file is other than it was, and rests.
    pub files_changed: bool,
    /// On site: the operator's own change, in the portal, is known already.
    pub pin_changed: bool,
    /// Children that have to start again to take it up.
    pub concerned: BTreeSet<&'static str>,
    /// Whether there is a mistake now, or none any more.
    pub mistake_changed: bool,
}

impl Configuration {
    /// In which the launcher hands a supervisor, and nobody else, the database that it has taken up.
    pub const DATABASE_HANDED_ON: &str = "PLANTLINK_DATABASE_URL";

    /// # Errors
    /// [`Mistakes`], where no good `config.txt` was handed on that could be used instead; unusable credentials.
    pub fn start(root: &InstallRoot) -> Result<Self, Mistakes> {
        // Before they are read: what changes meanwhile is found by the first look.
        let defaults = stamps(root, &Settings::default());
        let (settings, text, mistake) = match Settings::read_file(root) {
            Ok((settings, text)) => (settings, text, None),
            Err(mistakes) => match std::env::var(Settings::HANDED_ON) {
                Ok(text) => (Settings::read(root)?, text, Some(mistakes.to_string())),
                Err(_) => return Err(mistakes),
            },
        };
        let (Credentials { database_url, pin_hash }, mistake) = match Credentials::read(&root.credentials_file()) {
            Ok(read) => (read, mistake),
            Err(mistakes) => match std::env::var(Self::DATABASE_HANDED_ON) {
                Ok(url) => (Credentials { database_url: Some(url), pin_hash: None }, Some(mistakes.to_string())),
                Err(_) => return Err(mistakes),
            },
        };
        let keys = std::fs::read(root.resolve(&settings.server_public_key_file)).unwrap_or_default();
        let database_url = database_url.map(Arc::from);
        let taken = Taken { settings: Arc::new(settings), text: text.into(), database_url, pin_hash, keys };
        let now = stamps(root, &taken.settings);
        let judged = now.into_iter().map(|(path, stamp)| {
            let before = defaults.iter().find(|(other, _)| *other == path).map(|(_, before)| *before);
            (path, before.unwrap_or(stamp))
        });
        let state = State { judged: judged.collect(), taken, seen: Stamps::new(), looked: Instant::now(), mistake };
        Ok(Self { root: root.clone(), state: Mutex::new(state) })
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.state().taken.settings.clone()
    }

    /// For [`Settings::HANDED_ON`].
    pub fn text(&self) -> Arc<str> {
        self.state().taken.text.clone()
    }

    pub fn database_url(&self) -> Option<Arc<str>> {
        self.state().taken.database_url.clone()
    }

    /// The operator has changed the PIN in the portal, which has ended its sessions itself.
    pub fn pin_is_changed(&self) {
        if let Ok(read) = Credentials::read(&self.root.credentials_file()) {
            self.state().taken.pin_hash = read.pin_hash;
        }
    }

    /// What is wrong in the files as they are now.
    pub fn mistake(&self) -> Option<String> {
        self.state().mistake.clone()
    }

    /// Takes up what has changed, once a file rests between two looks. Asked sooner, it waits for the next time.
    pub fn look(&self) -> Change {
        let mut state = self.state();
        if state.looked.elapsed() < LOOK_EVERY {
            return Change::default();
        }
        state.looked = Instant::now();
        let now = stamps(&self.root, &state.taken.settings);
        let rests = now == state.seen;
        state.seen.clone_from(&now);
        // A mistake may be mended in a file that is not looked at, such as a key that was missing.
        if !rests || (now == state.judged && state.mistake.is_none()) {
            return Change::default();
        }
        let files_changed = state.judged != now;
        state.judged = now;
        let mistake_before = state.mistake.take();
        let mut change = Change { files_changed, ..Change::default() };
        match self.read() {
            Ok(new) => {
                let before = std::mem::replace(&mut state.taken, new);
                change.concerned = concerned(&before, &state.taken);
                change.pin_changed = before.pin_hash != state.taken.pin_hash;
            }
            Err(mistake) => state.mistake = Some(mistake),
        }
        Change { mistake_changed: state.mistake != mistake_before, ..change }
    }

    fn read(&self) -> Result<Taken, String> {
        let (settings, text) = Settings::read_file(&self.root).map_err(|mistakes| mistakes.to_string())?;
        let credentials = Credentials::read(&self.root.credentials_file()).map_err(|mistakes| mistakes.to_string())?;
        let pin_hash = credentials.pin_hash.clone();
        let database = credentials.require_database_url().and_then(|url| {
            let placed = readings::place(&url, self.root.path()).map(|_| url);
            placed
                .map_err(|error| Failure::configuration(format!("{}: {error}", self.root.credentials_file().display())))
        });
        let database_url = Some(database.map_err(|failure| failure.message)?.into());
        let key_file = self.root.resolve(&settings.server_public_key_file);
        PublicKey::read_all(&key_file).map_err(|error| error.to_string())?;
        let keys = std::fs::read(&key_file).map_err(|error| format!("{}: {error}", key_file.display()))?;
        Ok(Taken { settings: Arc::new(settings), text: text.into(), database_url, pin_hash, keys })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const COLLECTOR: &str = "collector";
const AGENT: &str = "agent";
const PORTAL: &str = "portal";

/// The children that read what differs.
fn concerned(before: &Taken, after: &Taken) -> BTreeSet<&'static str> {
    let (old, new) = (&before.settings, &after.settings);
    // Whole, so that a key that is added later cannot be forgotten here.
    let Settings {
        agent_port,
        agent_bind,
        agent_cert_file,
        agent_key_file,
        agent_allow,
        agent_auth,
        auth_attempts_per_minute,
        server_public_key_file,
        update_public_key_file,
        update_signatures_required,
        update_max_bytes,
        update_unbound,
        // Asked for by supervisor and launcher alone, each time anew.
        update_trial: _,
        license_file: _,
        spool_max_bytes,
        retention_days,
        low_disk_reserve_bytes,
        portal_port,
        portal_bind,
        portal_cert_file,
        portal_key_file,
        portal_hosts,
        language,
        log_level,
        log_format,
        // The watchdog's own, from its next start on.
        metrics_port: _,
    } = &**new;
    let agent = *agent_port != old.agent_port
        || *agent_bind != old.agent_bind
        || *agent_cert_file != old.agent_cert_file
        || *agent_key_file != old.agent_key_file
        || *agent_allow != old.agent_allow
        || *agent_auth != old.agent_auth
        || *auth_attempts_per_minute != old.auth_attempts_per_minute
        || *server_public_key_file != old.server_public_key_file
        || *update_public_key_file != old.update_public_key_file
        || *update_signatures_required != old.update_signatures_required
        || *update_max_bytes != old.update_max_bytes
        || *update_unbound != old.update_unbound
        || before.keys != after.keys;
    let collector = *spool_max_bytes != old.spool_max_bytes || *retention_days != old.retention_days;
    let portal = *portal_port != old.portal_port
        || *portal_bind != old.portal_bind
        || *portal_cert_file != old.portal_cert_file
        || *portal_key_file != old.portal_key_file
        || *portal_hosts != old.portal_hosts
        || *language != old.language
        // With it go all its sessions.
        || before.pin_hash != after.pin_hash;
    let stores = *low_disk_reserve_bytes != old.low_disk_reserve_bytes || before.database_url != after.database_url;
    let all = *log_level != old.log_level || *log_format != old.log_format;
    let concerned = [(COLLECTOR, collector || stores), (AGENT, agent || stores), (PORTAL, portal)];
    concerned.into_iter().filter(|(_, is)| *is || all).map(|(name, _)| name).collect()
}

/// When which file of the configuration last changed.
fn stamps(root: &InstallRoot, settings: &Settings) -> Stamps {
    // These may lie anywhere.
    let anywhere = [
        &settings.server_public_key_file,
        &settings.update_public_key_file,
        &settings.agent_cert_file,
        &settings.agent_key_file,
        &settings.portal_cert_file,
        &settings.portal_key_file,
    ];
    let mut files: BTreeSet<PathBuf> = anywhere.into_iter().map(|file| root.resolve(file)).collect();
    files.extend([root.config_file(), root.credentials_file()]);
    let folder = std::fs::read_dir(root.resolve("config"));
    files.extend(folder.into_iter().flatten().flatten().map(|entry| entry.path()));
    files
        .into_iter()
        .map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        })
        .collect()
}
