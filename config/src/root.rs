use std::path::{Path, PathBuf};

/// Where everything of one plant PC lies. Only paths; nothing is opened here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallRoot(PathBuf);

impl InstallRoot {
    /// Made absolute, so that a change of the current folder changes nothing.
    pub fn new(path: &Path) -> Self {
        Self(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path from the configuration: relative ones are meant from the root. Written as this system writes it, whichever
    /// way it was named.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path).components().collect()
    }

    pub fn config_file(&self) -> PathBuf {
        self.resolve("config/config.txt")
    }

    pub fn credentials_file(&self) -> PathBuf {
        self.resolve("config/credentials.env")
    }

    pub fn sources_file(&self) -> PathBuf {
        self.resolve("config/sources.toml")
    }

    pub fn license_key_file(&self) -> PathBuf {
        self.resolve("config/license_public.pem")
    }

    pub fn versions(&self) -> PathBuf {
        self.resolve("versions")
    }

    pub fn state(&self) -> PathBuf {
        self.resolve("state")
    }

    /// What has happened, for the portal and for people.
    pub fn events_log(&self) -> PathBuf {
        self.resolve("logs/events.jsonl")
    }

    pub fn boot_record(&self) -> PathBuf {
        self.resolve("state/boot")
    }

    /// Held by the launcher for as long as it lives: two on one root are refused.
    pub fn launcher_lock(&self) -> PathBuf {
        self.resolve("state/watchdog.lock")
    }

    /// The supervisor's last account of itself; true only while the lock is held.
    pub fn run_file(&self) -> PathBuf {
        self.resolve("state/run.json")
    }

    pub fn collector_state(&self) -> PathBuf {
        self.resolve("state/collector")
    }

    pub fn agent_state(&self) -> PathBuf {
        self.resolve("state/agent")
    }

    /// The agent's request to the collector for a new epoch.
    pub fn epoch_request(&self) -> PathBuf {
        self.resolve("state/agent/epoch_request.json")
    }

    pub fn last_sync(&self) -> PathBuf {
        self.resolve("agent/last_sync.txt")
    }

    pub fn logs(&self) -> PathBuf {
        self.resolve("logs")
    }

    pub fn sessions_log(&self) -> PathBuf {
        self.resolve("logs/sessions.jsonl")
    }

    pub fn pending_update(&self) -> PathBuf {
        self.resolve("pending_update")
    }

    /// Where the agent lays what it has received; the only part of [`Self::pending_update`] that it writes to.
    pub fn incoming(&self) -> PathBuf {
        self.resolve("pending_update/incoming")
    }

    pub fn pending_meta(&self) -> PathBuf {
        self.resolve("pending_update/meta.json")
    }

    /// Held by whoever changes the boot record.
    pub fn update_lock(&self) -> PathBuf {
        self.resolve("state/update.lock")
    }

    /// Held by whoever needs the database to stay where it is: an import, and an update on its way to another.
    pub fn database_lock(&self) -> PathBuf {
        self.resolve("state/database.lock")
    }

    /// The package that is being applied, verified, where only the watchdog writes.
    pub fn applied_package(&self) -> PathBuf {
        self.resolve("state/update/package.zip")
    }

    /// Whose signatures packages need, once a package of keys has said so.
    pub fn update_keys(&self) -> PathBuf {
        self.resolve("state/update_keys.json")
    }

    /// The set that an update is about to put there.
    pub fn next_update_keys(&self) -> PathBuf {
        self.resolve("state/update_keys.next.json")
    }

    /// The package that waits behind a package of keys.
    pub fn pending_behind(&self) -> PathBuf {
        self.resolve("pending_update/behind.json")
    }

    pub fn update_progress(&self) -> PathBuf {
        self.resolve("state/update/progress.jsonl")
    }

    /// Wrong PINs so far.
    pub fn pin_failures(&self) -> PathBuf {
        self.resolve("state/pin.json")
    }

    pub fn update_log(&self) -> PathBuf {
        self.resolve("agent/update_log.jsonl")
    }

    pub fn backups(&self) -> PathBuf {
        self.resolve("backups")
    }

    /// Trusted time; the agent writes it.
    pub fn trusted_time(&self) -> PathBuf {
        self.resolve("state/agent/time.json")
    }

    pub fn version_file(&self) -> PathBuf {
        self.resolve("version.txt")
    }

    pub fn restart_flag(&self) -> PathBuf {
        self.resolve("restart.flag")
    }
}
