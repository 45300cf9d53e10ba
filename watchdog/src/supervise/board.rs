//! How everything is: written by the children's tasks, read by everybody.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use daemon::{Metrics, Readiness};
use protocol::Timestamp;
use protocol::control::{
    ChildState, ChildStatus, Collected, EventKind, Exported, PendingState, PlantStatus, Pulse, UpdateStatus,
};
use tokio::sync::watch;
use updater::boot_record::{BootRecord, Phase};

use super::journal::Journal;

pub struct Board {
    pub journal: Arc<Journal>,
    state: Mutex<State>,
    /// Names of children that are ready.
    ready: watch::Sender<Vec<String>>,
    /// Counts up with what should be told at once.
    news: watch::Sender<u64>,
    /// Held while what the disk says is read and told, so that nothing older is told after it.
    reading: Mutex<()>,
}

struct State {
    status: PlantStatus,
    since: Vec<Option<Instant>>,
    /// Restarts by child and reason.
    restarts: BTreeMap<(String, &'static str), u64>,
    unlicensed: Option<String>,
    /// What is wrong in the configuration, and therefore not taken up.
    mistake: Option<String>,
    /// Files without which one thing or another is not done.
    unusable: Vec<String>,
    /// What each child said last when it ended by itself.
    last_words: BTreeMap<String, String>,
    phase: Phase,
    /// What each child has said that it is.
    versions: BTreeMap<String, String>,
    /// Children that have been told the phase and have no process yet.
    starting: Vec<String>,
    first_ended: Option<String>,
}

/// What becomes of a mistake in the configuration.
const OLD: &str = "what runs goes on as it was";
const METRICS_WITHIN: Duration = Duration::from_secs(2);

impl Board {
    pub fn new(children: &[&str], metrics_address: String, record: &BootRecord, journal: Arc<Journal>) -> Self {
        let child = |name: &&str| ChildStatus {
            name: (*name).to_owned(),
            pid: None,
            state: ChildState::Stopped,
            uptime_seconds: 0,
            restarts: 0,
            address: None,
            health_address: None,
        };
        let status = PlantStatus {
            version: daemon::version().to_owned(),
            phase: record.phase.word().to_owned(),
            attempt: record.attempts,
            children: children.iter().map(child).collect(),
            metrics_address: Some(metrics_address),
            licensed: true,
            started_at: Some(Timestamp::now()),
            ..PlantStatus::default()
        };
        let state = State {
            status,
            since: vec![None; children.len()],
            restarts: BTreeMap::new(),
            unlicensed: None,
            mistake: None,
            unusable: Vec::new(),
            last_words: BTreeMap::new(),
            phase: record.phase,
            versions: BTreeMap::new(),
            starting: Vec::new(),
            first_ended: None,
        };
        Self {
            journal,
            state: Mutex::new(state),
            ready: watch::channel(Vec::new()).0,
            news: watch::channel(0).0,
            reading: Mutex::new(()),
        }
    }

    pub fn status(&self) -> PlantStatus {
        self.with(|state| {
            let mut status = state.status.clone();
            for (child, since) in status.children.iter_mut().zip(&state.since) {
                child.uptime_seconds = since.map_or(0, |since| since.elapsed().as_secs());
            }
            status.problems = problems(&status, state.unlicensed.as_deref(), &state.last_words);
            let mistake = state.mistake.as_ref().map(|mistake| format!("{mistake}; until that is mended, {OLD}"));
            status.problems.extend(mistake.into_iter().chain(state.unusable.iter().cloned()));
            status
        })
    }

    /// A child is about to be started, and is told this phase. Until its process is known, nobody may believe that there
    /// is none.
    pub fn starts(&self, name: &str) -> String {
        self.with(|state| {
            state.starting.push(name.to_owned());
            format!("{}/{}", state.phase.word(), state.status.attempt)
        })
    }

    pub fn started(&self, name: &str, pid: Option<u32>) {
        self.with(|state| state.starting.retain(|other| other != name));
        self.child(name, |child, since| {
            child.pid = pid;
            child.state = ChildState::Starting;
            *since = Some(Instant::now());
        });
    }

    /// What it said last, for people; empty if that is not known.
    pub fn last_words(&self, name: &str, words: &str) {
        self.with(|state| state.last_words.insert(name.to_owned(), words.to_owned()));
    }

    /// It was not told to.
    pub fn ended_by_itself(&self, name: &str, how: &str) {
        self.with(|state| {
            state.first_ended.get_or_insert_with(|| format!("{name} {how}"));
        });
    }

    pub fn ended(&self, name: &str, state: ChildState, reason: Option<&'static str>) {
        self.ready.send_modify(|ready| ready.retain(|other| other != name));
        if name == "collector" {
            self.journal.collector_ended();
        }
        self.with(|state| {
            state.starting.retain(|other| other != name);
            state.versions.remove(name);
            if name == "collector"
                && let Some(collected) = &mut state.status.collected
            {
                collected.holding = None;
            }
        });
        self.child(name, |child, since| {
            (child.pid, child.address, child.health_address) = (None, None, None);
            child.state = state;
            *since = None;
            if reason.is_some() {
                child.restarts += 1;
            }
        });
        if let Some(reason) = reason {
            match state {
                ChildState::CrashLoop => self.journal.note(EventKind::CrashLoop, name, reason),
                ChildState::BadConfiguration => self.journal.note(EventKind::BadConfiguration, name, ""),
                _ => self.journal.note(EventKind::Restarted, name, reason),
            }
            self.with(|board| *board.restarts.entry((name.to_owned(), reason)).or_default() += 1);
        }
    }

    pub fn listening(&self, name: &str, url: &str) {
        self.child(name, |child, _| child.address = Some(url.to_owned()));
    }

    pub fn health_at(&self, name: &str, url: &str) {
        self.child(name, |child, _| {
            child.health_address = Some(url.to_owned());
            // A child that serves nothing but its health is known by that address.
            child.address.get_or_insert_with(|| url.to_owned());
        });
    }

    pub fn health_address(&self, name: &str) -> Option<String> {
        self.with(|state| state.status.children.iter().find(|child| child.name == name)?.health_address.clone())
    }

    pub fn is_ready(&self, name: &str, version: String) {
        self.with(|state| state.versions.insert(name.to_owned(), version));
        self.child(name, |child, _| child.state = ChildState::Running);
        self.ready.send_modify(|ready| ready.push(name.to_owned()));
    }

    /// What `/readyz` says of a child that has been ready once.
    pub fn healthy(&self, name: &str, healthy: bool) {
        self.child(name, |child, _| match (child.state, healthy) {
            (ChildState::Running, false) => child.state = ChildState::NotReady,
            (ChildState::NotReady, true) => child.state = ChildState::Running,
            _ => {}
        });
    }

    pub fn collected(&self, collected: Collected) {
        self.journal.collected(&collected);
        self.with(|state| {
            state.status.spool_readings = collected.spool_readings;
            state.status.collected = Some(collected);
        });
    }

    pub fn exported(&self, exported: Exported) {
        self.with(|state| state.status.exported = Some(exported));
    }

    /// What boot record, waiting package and progress say now, in one status.
    pub fn update(&self, read: impl FnOnce() -> Option<(BootRecord, UpdateStatus)>) {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((record, update)) = read() else { return };
        let phase = record.phase;
        let before = self.with(|state| {
            state.status.phase = phase.word().to_owned();
            state.status.attempt = record.attempts;
            state.status.pending_version = update.pending.as_ref().map(|pending| pending.version.clone());
            state.status.update = update;
            std::mem::replace(&mut state.phase, phase)
        });
        if before != phase {
            tracing::info!(phase = phase.word(), "the phase has changed");
        }
        self.news.send_modify(|news| *news += 1);
    }

    pub fn current_phase(&self) -> Phase {
        self.with(|state| state.phase)
    }

    /// Changes with what should be told at once.
    pub fn watch_news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Whether no process of ours writes to the store: the collector has said so, or there is none.
    pub fn nothing_stores(&self) -> bool {
        self.with(|state| {
            let collector = state.status.children.iter().find(|child| child.name == "collector");
            let none = collector.is_none_or(|collector| collector.pid.is_none());
            let attempt = Some(state.status.attempt);
            let holds = state.status.collected.as_ref().is_some_and(|collected| collected.holding == attempt);
            if none { !state.starting.iter().any(|name| name == "collector") } else { holds }
        })
    }

    pub fn spool_seconds_left(&self) -> Option<f64> {
        self.with(|state| state.status.collected.as_ref().and_then(|collected| collected.spool_seconds_left))
    }

    /// What the launcher is told.
    pub fn pulse(&self) -> Pulse {
        self.with(|state| {
            let should_run = |child: &&ChildStatus| child.state != ChildState::Unlicensed;
            let version = |child: &ChildStatus| {
                let is_running = child.state == ChildState::Running;
                (child.name.clone(), state.versions.get(&child.name).filter(|_| is_running).cloned())
            };
            Pulse {
                versions: state.status.children.iter().filter(should_run).map(version).collect(),
                ended: state.first_ended.clone(),
                spool_seconds_left: state.status.collected.as_ref().and_then(|it| it.spool_seconds_left),
            }
        })
    }

    /// Why there is no licence; `None` if there is, or none is needed.
    pub fn license(&self, unlicensed: Option<String>) {
        self.with(|state| {
            state.status.licensed = unlicensed.is_none();
            state.unlicensed = unlicensed;
        });
    }

    /// Why the configuration is not taken up; `None` if it is.
    pub fn configuration(&self, mistake: Option<String>) {
        self.with(|state| state.mistake = mistake);
    }

    /// Files without which one thing or another is not done, in words for the operator.
    pub fn unusable_files(&self, unusable: Vec<String>) {
        self.with(|state| state.unusable = unusable);
    }

    pub fn is_licensed(&self) -> bool {
        self.with(|state| state.status.licensed)
    }

    /// Returns once a child has said that it is ready.
    pub async fn ready(&self, name: &str) {
        let _ = self.ready.subscribe().wait_for(|ready| ready.iter().any(|other| other == name)).await;
    }

    /// Metrics of all children, asked for now.
    async fn children_metrics(&self) -> String {
        let mut metrics = Metrics::default();
        for child in self.status().children {
            let Some(address) = child.health_address else { continue };
            if let Ok((_, text)) = daemon::ask(&format!("{address}/metrics"), METRICS_WITHIN).await {
                metrics.append(&String::from_utf8_lossy(&text));
            }
        }
        metrics.into_text()
    }

    fn child(&self, name: &str, change: impl FnOnce(&mut ChildStatus, &mut Option<Instant>)) {
        self.with(|state| {
            if let Some(at) = state.status.children.iter().position(|child| child.name == name) {
                change(&mut state.status.children[at], &mut state.since[at]);
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is wrong, in words for the operator.
fn problems(status: &PlantStatus, unlicensed: Option<&str>, last_words: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems: Vec<String> = unlicensed.map(str::to_owned).into_iter().collect();
    if status.phase == Phase::FallingBack.word() {
        let what = "an update is being taken back, which cannot be completed yet (the watchdog's log says why); readings are \
                    kept in the spool, and HQ cannot pull until it is";
        problems.push(what.to_owned());
    }
    if let Some(pending) = status.update.pending.as_ref().filter(|pending| pending.state == PendingState::Failed) {
        let error = pending.error.as_deref().unwrap_or("no reason is known");
        problems.push(format!("the update to {} failed: {error}; version {} runs", pending.version, status.version));
    }
    for child in &status.children {
        let name = &child.name;
        let why = match last_words.get(name).filter(|words| !words.is_empty()) {
            Some(words) => format!(": {words}"),
            None => format!("; logs/{name}.log says why"),
        };
        match child.state {
            ChildState::CrashLoop => problems.push(format!("{name} keeps ending{why}")),
            ChildState::BadConfiguration => problems.push(format!("{name} cannot work with its configuration{why}")),
            ChildState::Waiting => problems.push(format!("{name} is about to be started again; it has ended{why}")),
            ChildState::Starting
            | ChildState::Running
            | ChildState::NotReady
            | ChildState::Unlicensed
            | ChildState::Stopped => {}
        }
    }
    if let Some(mistake) = status.collected.as_ref().and_then(|collected| collected.sources_mistake.as_ref()) {
        problems.push(format!("{mistake}; until that is mended, {OLD}"));
    }
    for (name, source) in status.collected.iter().flat_map(|collected| &collected.sources) {
        if let Some(error) = &source.error {
            problems.push(format!("{name}: {error}"));
        }
    }
    if let Some(error) = status.collected.as_ref().and_then(|collected| collected.store_error.as_ref()) {
        problems.push(format!("readings are kept in the spool: {error}"));
    }
    let set_aside = status.collected.as_ref().map_or(0, |collected| collected.set_aside);
    if set_aside > 0 {
        problems.push(format!(
            "the database has refused {set_aside} readings, which are put aside in state/collector/set_aside; \
             logs/collector.log says why"
        ));
    }
    for (reason, count) in status.collected.iter().flat_map(|collected| &collected.dropped) {
        problems.push(match reason.as_str() {
            "spool_full" => format!("{count} readings were lost because the spool was full"),
            "disk_low" => format!("{count} readings were lost because the disk is nearly full; free some space"),
            "spool_damaged" => format!("the disk has damaged {count} readings or records in the spool; check the disk"),
            _ => format!("{count} readings were lost because the disk did not take them; check the disk"),
        });
    }
    problems
}

impl Readiness for Board {
    fn reasons(&self) -> Vec<String> {
        let status = self.status();
        let down = status.children.iter().filter(|child| child.state != ChildState::Running);
        down.map(|child| format!("{} is {}", child.name, child.state.word())).collect()
    }

    fn metrics(&self, metrics: &mut Metrics) {
        let restarts = self.with(|state| state.restarts.clone());
        let restarts: Vec<_> = restarts
            .iter()
            .map(|((child, reason), count)| ([("child", child.as_str()), ("reason", *reason)], *count as f64))
            .collect();
        let restarts: Vec<(&[(&str, &str)], f64)> =
            restarts.iter().map(|(labels, count)| (labels.as_slice(), *count)).collect();
        metrics.counter("watchdog_restarts_total", "Restarts of children, by reason.", &restarts);
        metrics.gauge(
            "update_state",
            "Phase: 0 committed, 1 preparing, 2 migrating, 3 trial, 4 committing, 5 falling back.",
            &[(&[], f64::from(self.current_phase() as u8))],
        );
        metrics.gauge("build_info", "The running version.", &[(&[("version", daemon::version())], 1.0)]);
    }

    fn others_metrics(self: Arc<Self>) -> Pin<Box<dyn Future<Output = String> + Send>> {
        Box::pin(async move { self.children_metrics().await })
    }
}
