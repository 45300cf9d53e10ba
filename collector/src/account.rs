//! What the collector tells of itself: to the supervisor, to monitoring, to the portal.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::Sources;
use daemon::{Control, Metrics, Readiness};
use protocol::control::{Collected, FromChild};
use readings::{Quality, Reading};

use tokio::sync::Notify;

use crate::spool::Spool;

/// Shared by everything that collects; each call is short.
pub struct Account {
    state: Mutex<State>,
    accepted: AtomicU64,
    /// Something that is not left to the next regular report.
    news: Notify,
}

struct State {
    collected: Collected,
    latest: HashMap<Arc<str>, Reading>,
}

const REPORT_EVERY: Duration = Duration::from_secs(1);

impl Account {
    pub fn new(sources: &Sources) -> Self {
        let starting = Some("the spool is being read".to_owned());
        let collected = Collected { store_error: starting, ..Collected::default() };
        let account = Self {
            state: Mutex::new(State { collected, latest: HashMap::new() }),
            accepted: AtomicU64::new(0),
            news: Notify::new(),
        };
        account.set_sources(sources, &[]);
        account
    }

    /// These are the sources from now on; what was known of the ended ones is forgotten.
    pub fn set_sources(&self, sources: &Sources, ended: &[String]) {
        self.with(|state| {
            let known = &mut state.collected.sources;
            known.retain(|name, _| !ended.contains(name));
            for source in &sources.0 {
                let status = known.entry(source.name().to_owned()).or_default();
                status.tags = source.tags() as u64;
            }
            state.collected.sources_mistake = None;
            state.latest.retain(|tag, _| {
                // One source's name may begin with that of another.
                let owner = known.keys().chain(ended).filter(|name| is_of(tag, name)).max_by_key(|name| name.len());
                owner.is_none_or(|owner| !ended.contains(owner))
            });
        });
    }

    /// What is wrong in a `sources.toml` that is not taken up; `None` if it says what it said.
    pub fn sources_mistake(&self, mistake: Option<String>) {
        self.with(|state| state.collected.sources_mistake = mistake);
    }

    pub fn tags(&self) -> u64 {
        self.with(|state| state.collected.sources.values().map(|source| source.tags).sum())
    }

    /// One gather of a source: what it read, or why it could not.
    pub fn gathered(&self, source: &str, readings: &[Reading], error: Option<String>) {
        let good = readings.iter().filter(|reading| reading.quality == Quality::GOOD).count() as u64;
        self.with(|state| {
            let status = state.collected.sources.entry(source.to_owned()).or_default();
            match (&status.error, &error) {
                (None, Some(error)) => tracing::warn!(source, error, "not all can be read"),
                (Some(_), None) => tracing::info!(source, "everything can be read again"),
                _ => {}
            }
            status.up = error.is_none();
            status.error = error;
            status.good_total += good;
            status.bad_total += readings.len() as u64 - good;
        });
    }

    /// These are durable now.
    pub fn accepted(&self, readings: Vec<Reading>) {
        self.accepted.fetch_add(readings.len() as u64, Ordering::Relaxed);
        self.with(|state| {
            state.collected.readings_total += readings.len() as u64;
            for reading in readings {
                state.collected.last_time = state.collected.last_time.max(Some(reading.time));
                state.latest.insert(reading.tag.clone(), reading);
            }
        });
    }

    pub fn dropped(&self, reason: &str, count: u64) {
        self.with(|state| *state.collected.dropped.entry(reason.to_owned()).or_default() += count);
    }

    /// How many the database has refused, in the files that keep them.
    pub fn set_aside(&self, readings: u64) {
        self.with(|state| state.collected.set_aside = readings);
    }

    /// Why the store takes nothing; `None` while it does.
    pub fn store_error(&self, error: Option<String>) {
        self.with(|state| state.collected.store_error = error);
    }

    /// Whether it keeps away from the store because an update asks for it. Told at once: somebody waits for it.
    pub fn holding(&self, holding: Option<u64>) {
        if self.with(|state| std::mem::replace(&mut state.collected.holding, holding)) != holding {
            self.news.notify_one();
        }
    }

    /// The newest reading of each tag, sorted by name.
    pub fn latest(&self) -> Vec<Reading> {
        let mut latest: Vec<Reading> = self.with(|state| state.latest.values().cloned().collect());
        latest.sort_by(|one, other| one.tag.cmp(&other.tag));
        latest
    }

    pub fn collected(&self) -> Collected {
        self.with(|state| state.collected.clone())
    }

    /// Tells the supervisor once a second.
    pub async fn report_until_stopped(&self, control: &Control, spool: &Mutex<Spool>) {
        let mut ticks = tokio::time::interval(REPORT_EVERY);
        let (mut before, mut rate) = (Instant::now(), None);
        loop {
            tokio::select! {
                () = control.stopped() => return,
                () = self.news.notified() => {
                    control.say(&FromChild::Collected(self.collected()));
                    continue;
                }
                _ = ticks.tick() => {}
            }
            let seconds = before.elapsed().as_secs_f64();
            before = Instant::now();
            let now = self.accepted.swap(0, Ordering::Relaxed) as f64 / seconds.max(0.001);
            // Smoothed over some ten seconds, so that the figure can be read; the first one stands as it is.
            let smooth = rate.map_or(now, |rate: f64| rate + (now - rate) * 0.15);
            if seconds > 0.5 {
                rate = Some(smooth);
            }
            let stock = spool.lock().unwrap_or_else(PoisonError::into_inner).stock();
            let collected = self.with(|state| {
                state.collected.readings_per_second = rate.unwrap_or(0.0);
                state.collected.spool_readings = stock.readings;
                state.collected.spool_seconds_left = stock.seconds_left;
                state.collected.oldest_spooled_time = stock.oldest_time;
                state.collected.clone()
            });
            control.say(&FromChild::Collected(collected));
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Nothing in here panics half-way through a change.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_of(tag: &str, source: &str) -> bool {
    tag.strip_prefix(source).is_some_and(|rest| rest.starts_with('.'))
}

impl Readiness for Account {
    fn reasons(&self) -> Vec<String> {
        let collected = self.collected();
        collected.store_error.map(|error| format!("readings are kept in the spool: {error}")).into_iter().collect()
    }

    fn metrics(&self, metrics: &mut Metrics) {
        let collected = self.collected();
        let mut results = Vec::new();
        let mut up = Vec::new();
        for (name, source) in &collected.sources {
            results.push(([("source", name.as_str()), ("result", "good")], source.good_total as f64));
            results.push(([("source", name.as_str()), ("result", "bad")], source.bad_total as f64));
            up.push(([("source", name.as_str())], if source.up { 1.0 } else { 0.0 }));
        }
        let results: Vec<(&[(&str, &str)], f64)> =
            results.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect();
        let up: Vec<(&[(&str, &str)], f64)> = up.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect();
        metrics.counter("collector_readings_total", "Readings made, by source and result.", &results);
        metrics.gauge("collector_source_up", "Whether the last gather of a source succeeded.", &up);
        let spooled = collected.spool_readings as f64;
        metrics.gauge("collector_spool_readings", "Readings accepted and not yet in the store.", &[(&[], spooled)]);
        let left = collected.spool_seconds_left.unwrap_or(f64::INFINITY);
        metrics.gauge(
            "collector_spool_seconds_left",
            "How long the spool's room lasts at the present rate.",
            &[(&[], left)],
        );
        let dropped: Vec<_> =
            collected.dropped.iter().map(|(reason, count)| ([("reason", reason.as_str())], *count as f64)).collect();
        let dropped: Vec<(&[(&str, &str)], f64)> =
            dropped.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect();
        let set_aside = collected.set_aside as f64;
        let what = "Readings that the database refuses, put aside in state/collector/set_aside.";
        metrics.gauge("collector_set_aside_readings", what, &[(&[], set_aside)]);
        metrics.counter("collector_dropped_total", "Readings that could not be accepted, by reason.", &dropped);
    }
}
