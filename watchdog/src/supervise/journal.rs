//! What has happened on this plant PC: a line an event in `logs/events.jsonl`, the newest of them for the portal.

use std::collections::{BTreeMap, VecDeque};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::InstallRoot;
use protocol::Timestamp;
use protocol::control::{Collected, Event, EventKind};

pub struct Journal {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    newest: VecDeque<Event>,
    /// What the collector last said, and how much it had lost when that began.
    collected: Option<Collected>,
    losing: BTreeMap<String, Losing>,
    clock: Option<(Instant, Timestamp)>,
}

struct Losing {
    before: u64,
    last: Instant,
}

/// So many are shown.
const SHOWN: usize = 500;
/// Then the file becomes `events.jsonl.1`.
const LARGEST_BYTES: u64 = 2 << 20;
/// Losing more after so long is another event.
const LOSING_ENDS_AFTER: Duration = Duration::from_secs(60);
/// The wall clock is set right by less than this all the time.
const JUMP_SECONDS: f64 = 5.0;

impl Journal {
    pub fn open(root: &InstallRoot) -> Self {
        let file = root.events_log();
        let mut newest = VecDeque::new();
        for path in [file.with_extension("jsonl.1"), file.clone()] {
            let Ok(content) = std::fs::read(&path) else { continue };
            // A line that a power cut has torn is passed over, and ended before the next.
            for line in content.split(|byte| *byte == b'\n') {
                newest.extend(serde_json::from_slice::<Event>(line).ok());
                if newest.len() > SHOWN {
                    newest.pop_front();
                }
            }
            if content.last().is_some_and(|last| *last != b'\n') {
                let ended = OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(b"\n"));
                if let Err(error) = ended {
                    tracing::warn!(%error, "the file of events ends in half a line");
                }
            }
        }
        Self { file, state: Mutex::new(State { newest, ..State::default() }) }
    }

    pub fn note(&self, kind: EventKind, subject: &str, detail: &str) {
        let event = Event { time: Timestamp::now(), kind, subject: subject.to_owned(), detail: detail.to_owned() };
        self.with(|state| self.keep(state, event));
    }

    /// The newest first.
    pub fn newest(&self) -> Vec<Event> {
        self.with(|state| state.newest.iter().rev().cloned().collect())
    }

    /// What has changed since the collector last told.
    pub fn collected(&self, collected: &Collected) {
        self.with(|state| {
            let now = Timestamp::now();
            let before = state.collected.replace(collected.clone()).unwrap_or_default();
            let mut events = Vec::new();
            let mut note = |kind, subject: &str, detail: &str| {
                events.push(Event { time: now, kind, subject: subject.to_owned(), detail: detail.to_owned() });
            };
            for (name, source) in &collected.sources {
                let earlier = before.sources.get(name).and_then(|source| source.error.as_ref());
                match (earlier, &source.error) {
                    (None, Some(error)) => note(EventKind::SourceSilent, name, error),
                    (Some(_), None) if source.up => note(EventKind::SourceBack, name, ""),
                    _ => {}
                }
            }
            for (name, _) in before.sources.iter().filter(|(_, source)| source.error.is_some()) {
                if !collected.sources.contains_key(name) {
                    note(EventKind::SourceGone, name, "");
                }
            }
            if let Some(mistake) = &collected.sources_mistake
                && before.sources_mistake.as_ref() != Some(mistake)
            {
                note(EventKind::ConfigurationMistake, "", mistake);
            }
            // Until the first reading of the spool is over it only says so.
            if before.readings_total > 0 || before.last_time.is_some() {
                match (&before.store_error, &collected.store_error) {
                    (None, Some(error)) => note(EventKind::DatabaseAway, "", error),
                    (Some(_), None) => note(EventKind::DatabaseBack, "", ""),
                    _ => {}
                }
            }
            if collected.set_aside > before.set_aside {
                note(EventKind::ReadingsSetAside, "", &(collected.set_aside - before.set_aside).to_string());
            }
            for (reason, count) in &collected.dropped {
                let earlier = before.dropped.get(reason).copied().unwrap_or(0);
                if *count > earlier {
                    if !state.losing.contains_key(reason) {
                        note(EventKind::LosingBegan, reason, "");
                        state.losing.insert(reason.clone(), Losing { before: earlier, last: Instant::now() });
                    }
                    state.losing.entry(reason.clone()).and_modify(|losing| losing.last = Instant::now());
                }
            }
            state.losing.retain(|reason, losing| {
                let goes_on = losing.last.elapsed() < LOSING_ENDS_AFTER;
                if !goes_on {
                    let lost = collected.dropped.get(reason).copied().unwrap_or(0).saturating_sub(losing.before);
                    note(EventKind::LosingEnded, reason, &lost.to_string());
                }
                goes_on
            });
            for event in events {
                self.keep(state, event);
            }
        });
    }

    /// What the next one says begins anew.
    pub fn collector_ended(&self) {
        self.with(|state| {
            state.collected = None;
            state.losing.clear();
        });
    }

    /// To be called about once a second.
    pub fn look_at_clock(&self) {
        self.with(|state| {
            let (instant, now) = (Instant::now(), Timestamp::now());
            if let Some((before, then)) = state.clock.replace((instant, now)) {
                let passed = instant.duration_since(before).as_secs_f64();
                let jump = (now.as_micros() - then.as_micros()) as f64 / 1e6 - passed;
                if jump.abs() > JUMP_SECONDS {
                    let detail = format!("{jump:.0}");
                    self.keep(state, Event { time: now, kind: EventKind::ClockJumped, subject: String::new(), detail });
                }
            }
        });
    }

    fn keep(&self, state: &mut State, event: Event) {
        let mut line = serde_json::to_vec(&event).expect("an event serialises");
        line.push(b'\n');
        state.newest.push_back(event);
        if state.newest.len() > SHOWN {
            state.newest.pop_front();
        }
        if std::fs::metadata(&self.file).is_ok_and(|metadata| metadata.len() > LARGEST_BYTES)
            && let Err(error) = std::fs::rename(&self.file, self.file.with_extension("jsonl.1"))
        {
            tracing::warn!(%error, "the file of events grows beyond its size");
        }
        // Shown all the same, where the disk takes nothing more.
        let written = OpenOptions::new().create(true).append(true).open(&self.file);
        if let Err(error) = written.and_then(|mut file| file.write_all(&line)) {
            tracing::warn!(%error, "an event could not be written down");
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Nothing in here panics half-way through a change.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use protocol::control::SourceStatus;

    use super::*;

    #[test]
    fn what_changes_is_told_once_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let root = InstallRoot::new(folder.path());
        std::fs::create_dir(root.logs()).unwrap();
        let journal = Journal::open(&root);
        let mut collected = Collected { readings_total: 5, ..Collected::default() };
        collected.sources.insert("press".to_owned(), SourceStatus { up: true, ..SourceStatus::default() });
        journal.collected(&collected);
        for error in [Some("timed out"), Some("refused"), None] {
            let source = collected.sources.get_mut("press").unwrap();
            (source.up, source.error) = (error.is_none(), error.map(str::to_owned));
            journal.collected(&collected);
        }
        for lost in [100, 200, 300] {
            collected.dropped.insert("spool_full".to_owned(), lost);
            journal.collected(&collected);
        }
        collected.store_error = Some("away".to_owned());
        journal.collected(&collected);
        journal.note(EventKind::Restarted, "agent", "exited");
        let kinds = |journal: &Journal| journal.newest().into_iter().map(|event| event.kind).collect::<Vec<_>>();
        let expected = [
            EventKind::Restarted,
            EventKind::DatabaseAway,
            EventKind::LosingBegan,
            EventKind::SourceBack,
            EventKind::SourceSilent,
        ];
        assert_eq!(kinds(&journal), expected);
        OpenOptions::new().append(true).open(root.events_log()).unwrap().write_all(b"{\"torn").unwrap();
        let again = Journal::open(&root);
        assert_eq!(kinds(&again), expected);
        again.note(EventKind::Started, "1.0.0", "");
        assert_eq!(kinds(&Journal::open(&root))[..2], [EventKind::Started, EventKind::Restarted], "behind a torn line");
    }

    #[test]
    fn the_file_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let root = InstallRoot::new(folder.path());
        std::fs::create_dir(root.logs()).unwrap();
        let journal = Journal::open(&root);
        let long = "x".repeat(100_000);
        (0..60).for_each(|_| journal.note(EventKind::Restarted, "agent", &long));
        let bytes: u64 =
            std::fs::read_dir(root.logs()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 2 * LARGEST_BYTES + 300_000, "{bytes}");
        assert_eq!(journal.newest().len(), 60);
    }
}
