//! What the collector tells of itself: to the supervisor, to monitoring, to the portal.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::Sources;
use daemon::{Control, Metrics, Readiness};
use protocol::control::{Collected, FromChild, SourceStatus};
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
        let mut collected = Collected { store_error: starting, ..Collected::default() };
        for (name, tags) in sources.each() {
            let status = SourceStatus { tags: tags as u64, ..SourceStatus::default() };
            collected.sources.insert(name.to_owned(), status);
        }
        Self {
            state: Mutex::new(State { collected, latest: HashMap::new() }),
            accepted: AtomicU64::new(0),
            news: Notify::new(),
        }
    }

    pub fn tags(&self) -> u64 {
        self.with(|state| state.collected.sources.values().map(|source| source.tags).sum())
    }

    /// One gather of a source: what it read, or why it could not.
    pub fn gathered(&self, source: &str, readings: &[Reading], error: Option<String>) {
        let good = readings.iter().filter(|reading| reading.quality == Quality::GOOD).count() as u64;
        self.with(|state| {
            let status = state.collected.sources.entry(source.to_owned()).or_default();
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
