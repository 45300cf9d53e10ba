//! Lines between the supervisor and a child: one JSON object a line, on the child's standard output and input.
//!
//! A child whose standard input closes has lost its supervisor and stops.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What a child says on its standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromChild {
    /// An address that was really bound, as a URL.
    Listening { role: Role, url: String },
    /// All that it needs for its work is there.
    Ready { version: String },
    /// What the collector has waiting and stored; about once a second.
    Collected(Collected),
    /// When HQ last pulled, and how the agent sees the store; when it changes.
    Exported(Exported),
    /// A package that the agent has refused: the code, and why.
    PackageRefused { code: String, detail: String },
    /// Something that only the supervisor may decide; answered by [`ToChild::Answer`] with the same number.
    Ask { request: u64, question: Question },
    /// From the supervisor to the launcher, about once a second: it lives.
    Pulse(Pulse),
}

/// How the children of a supervisor are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pulse {
    /// The version that each child reports; `None` for one that should run and is not ready.
    pub versions: BTreeMap<String, Option<String>>,
    /// The first child that has ended since the supervisor started, and how.
    pub ended: Option<String>,
    /// How long the spool's room lasts.
    pub spool_seconds_left: Option<f64>,
}

/// What the portal and the agent may not do themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Is this the operator's PIN?
    Pin { pin: Secret, caller: Caller },
    /// Another PIN for the operator, who knows the one until now.
    ChangePin { pin: Secret, new_pin: Secret, caller: Caller },
    /// Apply the waiting package, if it is the one that was shown.
    Approve { pin: Secret, caller: Caller, manifest_sha256: String },
    /// The operator has read of this package and wants it later.
    Postpone { manifest_sha256: String },
    /// A package has been received and verified, as this file in `pending_update/incoming/`.
    TakeIn { file: String },
}

impl Question {
    /// Asked by somebody at another machine.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Pin { caller, .. } | Self::ChangePin { caller, .. } | Self::Approve { caller, .. } => {
                *caller == Caller::Remote
            }
            Self::Postpone { .. } | Self::TakeIn { .. } => false,
        }
    }
}

/// Failures of people at the PC itself and of those elsewhere are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    Local,
    Remote,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    WrongPin {
        tries_left: u32,
    },
    LockedOut {
        seconds: u64,
    },
    /// `status` is a stable word, `text` is for people.
    Refused {
        status: String,
        reason: Option<String>,
        text: String,
    },
}

/// A text that must not get into a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What the child is there for: the agent's session port, the portal's pages.
    Service,
    /// `/healthz`, `/readyz`, `/metrics` on loopback.
    Health,
}

/// What the supervisor says on a child's standard input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToChild {
    Status(Box<PlantStatus>),
    Answer { request: u64, answer: Answer },
}

/// The plant PC at one moment, as `watchdog status --json` prints it and as agent and portal are told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlantStatus {
    pub version: String,
    /// `committed`, `trial`, …: the boot record's phase.
    pub phase: String,
    /// Number of the latest attempt at an update.
    #[serde(default)]
    pub attempt: u64,
    pub pending_version: Option<String>,
    pub children: Vec<ChildStatus>,
    pub metrics_address: Option<String>,
    /// Readings accepted and not yet in the store.
    pub spool_readings: u64,
    pub collected: Option<Collected>,
    pub exported: Option<Exported>,
    pub licensed: bool,
    /// What is wrong, for people; empty when nothing is.
    pub problems: Vec<String>,
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub update: UpdateStatus,
}

/// Where updates stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateStatus {
    pub pending: Option<PendingUpdate>,
    /// Steps of the attempt that is under way, or of the last one.
    pub progress: Vec<ProgressStep>,
    /// Attempts, the newest first.
    pub history: Vec<Attempted>,
}

/// `pending_update/meta.json`: the package that waits for the operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingUpdate {
    pub version: String,
    pub notes: String,
    /// The package beside it.
    pub package: String,
    pub manifest_sha256: String,
    pub package_bytes: u64,
    pub created: Timestamp,
    pub received_at: Timestamp,
    pub expires: Option<Timestamp>,
    /// Ids of the keys that signed it.
    pub signers: Vec<String>,
    /// Whether it names the versions that it may be put on.
    pub bound: bool,
    pub changes: Changes,
    pub migrations: Vec<String>,
    /// It changes no program, but whose signatures count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyChanges>,
    pub state: PendingState,
    /// Why it failed, for people.
    pub error: Option<String>,
    /// It failed untried: what it was judged against has changed since it came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PendingState {
    /// For the operator to read.
    Waiting,
    /// Read, and put off.
    Postponed,
    /// Approved, and under way.
    Applying,
    /// Tried, and taken back; may be approved again.
    Failed,
}

impl PendingState {
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Postponed => "postponed",
            Self::Applying => "applying",
            Self::Failed => "failed",
        }
    }
}

/// Paths that a package adds to, changes in and removes from the running version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
}

/// What a package of keys changes; keys by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChanges {
    pub version: u64,
    /// So many of them have to sign a package from then on.
    pub required: usize,
    /// And until then.
    #[serde(default)]
    pub required_before: usize,
    pub added: Vec<String>,
    pub kept: Vec<String>,
    pub removed: Vec<String>,
    /// Versions from this one on are taken again, where that is less than what ran here.
    pub floor: Option<String>,
}

/// One step of an update, as `GET /api/update/progress` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressStep {
    /// `verify`, `backup`, `patch`, `version`, `migrate`, `restart`, `confirm`, `done`; or `failed`.
    pub step: String,
    pub pct: u8,
    pub msg: String,
}

/// A line of `agent/update_log.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    pub time: Timestamp,
    pub from_version: String,
    pub to_version: String,
    /// `ok` or `failed`.
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Put back by `watchdog restore`, or because the boot record was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// Counts attempts on this plant PC.
    #[serde(default)]
    pub attempt: u64,
    /// Never the same twice, also where a root was laid out anew.
    #[serde(default)]
    pub id: String,
}

impl Attempted {
    /// Whether it changed no program, but whose signatures count.
    pub fn is_of_keys(&self) -> bool {
        self.to_version.starts_with("0.0.0-keys.")
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildStatus {
    pub name: String,
    pub pid: Option<u32>,
    pub state: ChildState,
    pub uptime_seconds: u64,
    pub restarts: u64,
    /// `http://127.0.0.1:8000`; null while down.
    pub address: Option<String>,
    pub health_address: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    Starting,
    Running,
    /// Alive, but it says that it cannot do its work; `/readyz` tells why.
    NotReady,
    /// Ended; started again after a pause.
    Waiting,
    /// More than five exits in a minute; tried again every five minutes.
    CrashLoop,
    /// Ended with exit code 78; started again when its configuration changes.
    BadConfiguration,
    /// Not started: no valid licence.
    Unlicensed,
    Stopped,
}

impl ChildState {
    /// The word that `--json` prints, and that tables show.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::NotReady => "not_ready",
            Self::Waiting => "waiting",
            Self::CrashLoop => "crash_loop",
            Self::BadConfiguration => "bad_configuration",
            Self::Unlicensed => "unlicensed",
            Self::Stopped => "stopped",
        }
    }
}

/// Something that has happened on a plant PC: a line of `logs/events.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub time: Timestamp,
    pub kind: EventKind,
    /// A program, a source, a version or a reason, as the kind has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// In the words of whoever noticed it, or a number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The watchdog, with this version.
    Started,
    Stopped,
    /// A program, for this reason: `exited`, `hung`, `asked`.
    Restarted,
    CrashLoop,
    BadConfiguration,
    /// A mistake in a file of the configuration, which is not taken up.
    ConfigurationMistake,
    /// Taken up, by these programs.
    ConfigurationTaken,
    Unlicensed,
    SourceSilent,
    SourceBack,
    /// A silent one is not asked any more.
    SourceGone,
    DatabaseAway,
    DatabaseBack,
    /// Readings that could not be accepted, for this reason.
    LosingBegan,
    /// How many it were.
    LosingEnded,
    /// So many readings that the database refuses.
    ReadingsSetAside,
    /// By so many seconds.
    ClockJumped,
    /// An update of this version waits for the operator.
    UpdateReceived,
    UpdateApproved,
    /// With the code of the refusal.
    PackageRefused,
    /// Too many wrong PINs, `local` or `remote`, for so many seconds.
    LockedOut,
    /// The operator's, in the `portal` or `on_site`.
    PinChanged,
    /// Of everything, by this.
    RestartAsked,
    /// Of a newer watchdog.
    #[serde(other)]
    Other,
}

/// A line of `logs/sessions.jsonl`, as far as the portal shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastSession {
    pub time: Timestamp,
    pub address: String,
    /// The id of HQ's key.
    pub key: String,
    pub records: u64,
    pub bytes: u64,
    pub version_delivered: Option<String>,
    pub verdict: Option<String>,
    pub duration_seconds: f64,
    pub ended: String,
}

/// The collector's own account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// Accepted since it started.
    pub readings_total: u64,
    pub readings_per_second: f64,
    pub spool_readings: u64,
    /// How long the spool's room lasts at the present rate; `None` while nothing comes in.
    pub spool_seconds_left: Option<f64>,
    /// Time of the newest reading accepted.
    pub last_time: Option<Timestamp>,
    /// Time of the oldest reading accepted and not yet in the store.
    pub oldest_spooled_time: Option<Timestamp>,
    /// Why the store takes nothing at present.
    pub store_error: Option<String>,
    /// The attempt at an update for which it keeps away from the store, as it was told to.
    #[serde(default)]
    pub holding: Option<u64>,
    pub sources: BTreeMap<String, SourceStatus>,
    /// What is wrong in a `sources.toml` that was changed, and is therefore not taken up.
    #[serde(default)]
    pub sources_mistake: Option<String>,
    /// Readings that the database refuses, put aside in files.
    #[serde(default)]
    pub set_aside: u64,
    /// Readings dropped for want of room, by reason.
    pub dropped: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    pub up: bool,
    pub tags: u64,
    pub good_total: u64,
    pub bad_total: u64,
    pub error: Option<String>,
}

/// The agent's own account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    pub last_success: Option<Timestamp>,
    pub rows_total: u64,
    /// Whoever ever asked for an export.
    #[serde(default)]
    pub keys: Vec<HqKey>,
    /// When the record of that was lost: there may be others.
    #[serde(default)]
    pub forgot_at: Option<Timestamp>,
}

/// What one key of HQ has fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HqKey {
    /// Its id.
    pub key: String,
    /// When it last asked for an export, by the plant's clock.
    pub asked_at: Timestamp,
    /// The same by HQ's.
    pub signed_at: Timestamp,
    /// Up to where it has confirmed to have everything.
    pub acknowledged: Option<Acknowledged>,
}

/// A place in the order of readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    pub epoch: String,
    pub seq: u64,
}
