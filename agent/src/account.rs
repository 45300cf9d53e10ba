//! What the agent counts, for monitoring and for the supervisor.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use daemon::{Control, Metrics, Readiness};
use protocol::Timestamp;
use protocol::control::Exported;

pub struct Account {
    control: Arc<Control>,
    auth: Mutex<BTreeMap<&'static str, u64>>,
    rows: AtomicU64,
    last_success: Mutex<Option<Timestamp>>,
    /// Why exports are not possible.
    store_error: Mutex<Option<(Instant, String)>>,
}

const ERROR_COUNTS_FOR: Duration = Duration::from_secs(120);

impl Account {
    pub fn new(control: Arc<Control>) -> Self {
        Self {
            control,
            auth: Mutex::default(),
            rows: AtomicU64::new(0),
            last_success: Mutex::default(),
            store_error: Mutex::default(),
        }
    }

    pub fn authenticated(&self, result: &'static str) {
        *lock(&self.auth).entry(result).or_default() += 1;
    }

    pub fn exported(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// What the supervisor is told of exports, with what is counted here.
    pub fn told(&self, exported: Exported) -> Exported {
        *lock(&self.last_success) = exported.last_success;
        Exported { rows_total: self.rows.load(Ordering::Relaxed), ..exported }
    }

    /// Age of the oldest reading that is accepted and cannot be exported yet, because it waits in the spool.
    pub fn horizon_lag_seconds(&self) -> f64 {
        let collected = self.control.plant_status().and_then(|plant| plant.collected);
        let oldest = collected.and_then(|collected| collected.oldest_spooled_time);
        oldest.map_or(0.0, |oldest| Timestamp::now().since(oldest).as_secs_f64())
    }

    pub fn store_error(&self, error: Option<String>) {
        *lock(&self.store_error) = error.map(|error| (Instant::now(), error));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Readiness for Account {
    fn reasons(&self) -> Vec<String> {
        // Nobody may pull for a day; what was so long ago says nothing of now.
        let error = lock(&self.store_error).clone().filter(|(since, _)| since.elapsed() < ERROR_COUNTS_FOR);
        error.map(|(_, error)| format!("readings cannot be exported: {error}")).into_iter().collect()
    }

    fn metrics(&self, metrics: &mut Metrics) {
        let auth = lock(&self.auth).clone();
        let auth: Vec<_> = auth.iter().map(|(result, count)| ([("result", *result)], *count as f64)).collect();
        let auth: Vec<(&[(&str, &str)], f64)> =
            auth.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect();
        metrics.counter("agent_auth_total", "Attempts to open a session, by result.", &auth);
        let rows = self.rows.load(Ordering::Relaxed) as f64;
        metrics.counter("export_rows_total", "Readings exported in whole exports.", &[(&[], rows)]);
        let lag = self.horizon_lag_seconds();
        metrics.gauge(
            "export_horizon_lag_seconds",
            "Age of the oldest accepted reading that cannot be exported yet.",
            &[(&[], lag)],
        );
        let last = lock(&self.last_success).map_or(0.0, |time| time.as_micros() as f64 / 1e6);
        metrics.gauge("export_last_success_timestamp_seconds", "When an export last went out whole.", &[(&[], last)]);
    }
}
