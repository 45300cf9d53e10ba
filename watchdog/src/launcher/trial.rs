//! Is a new version healthy? Judged by what its supervisor shows, on the launcher's own clock.

use std::time::{Duration, Instant};

use protocol::control::Pulse;

/// What has been seen of a version that is on trial.
pub struct Trial {
    length: Duration,
    version: String,
    /// Children that have to run.
    needed: &'static [&'static str],
    started: Instant,
    beaten: Instant,
    /// Since when all children have been ready without a break.
    ready_since: Option<Instant>,
    /// Since when one that was ready is not.
    ill_since: Option<Instant>,
    /// Those that are not ready now.
    unready: String,
    failed: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Open,
    Passed,
    /// Why, for people.
    Failed(String),
}

/// All children have to be ready by then; with the time that a fallback takes this keeps the promise of thirty seconds
/// beyond the trial's length.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// A supervisor that shows no life for so long hangs.
const SILENT: Duration = Duration::from_secs(8);
/// Readings are not given up for an update.
const LEAST_SPOOL_SECONDS: f64 = 30.0;
/// A child may be busy for a moment.
const ILL: Duration = Duration::from_secs(8);

impl Trial {
    /// `collects`: this plant has a licence, so a version that starts no collector is ill.
    pub fn new(length: Duration, version: String, collects: bool, now: Instant) -> Self {
        let needed: &[&str] = if collects { &["agent", "collector", "portal"] } else { &["agent", "portal"] };
        let (ready_since, ill_since, failed, unready) = (None, None, None, "watchdog".to_owned());
        Self { length, version, needed, started: now, beaten: now, ready_since, ill_since, unready, failed }
    }

    pub fn beat(&mut self, pulse: &Pulse, now: Instant) {
        self.beaten = now;
        if let Some(ended) = &pulse.ended {
            self.failed.get_or_insert_with(|| format!("the new version's {ended}"));
        }
        if pulse.spool_seconds_left.is_some_and(|left| left < LEAST_SPOOL_SECONDS) {
            self.failed.get_or_insert_with(|| "the spool has no room left for the rest of the trial".to_owned());
        }
        for (child, version) in &pulse.versions {
            if let Some(version) = version.as_ref().filter(|version| **version != self.version) {
                self.failed
                    .get_or_insert_with(|| format!("{child} reports version {version} instead of {}", self.version));
            }
        }
        let is_ready = |child: &str| pulse.versions.get(child).is_some_and(Option::is_some);
        let unready: Vec<&str> = self.needed.iter().copied().filter(|child| !is_ready(child)).collect();
        self.unready = unready.join(", ");
        match (unready.is_empty() && pulse.versions.values().all(Option::is_some), self.ready_since) {
            (true, _) => {
                self.ready_since.get_or_insert(now);
                self.ill_since = None;
            }
            (false, Some(_)) => {
                self.ill_since.get_or_insert(now);
            }
            (false, None) => {}
        }
    }

    pub fn judge(&self, now: Instant) -> Verdict {
        let since = |instant: Instant| now.saturating_duration_since(instant);
        if let Some(error) = &self.failed {
            return Verdict::Failed(error.clone());
        }
        if since(self.beaten) > SILENT {
            return Verdict::Failed("the new version's watchdog shows no life".to_owned());
        }
        match (self.ready_since, self.ill_since) {
            (None, _) if since(self.started) > READY_WITHIN => {
                Verdict::Failed(format!("the new version was not ready in time: {}", self.unready))
            }
            (_, Some(ill)) if since(ill) > ILL => {
                Verdict::Failed(format!("the new version stopped being ready: {}", self.unready))
            }
            (Some(ready), None) if since(ready) >= self.length => Verdict::Passed,
            _ => Verdict::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(versions: [Option<&str>; 3], ended: bool) -> Pulse {
        let names = ["agent", "collector", "portal"].map(str::to_owned);
        Pulse {
            versions: names.into_iter().zip(versions.map(|version| version.map(str::to_owned))).collect(),
            ended: ended.then(|| "collector ended with exit code 1".to_owned()),
            spool_seconds_left: None,
        }
    }

    /// Beats every second what `at` says, and tells the verdict and its second.
    fn try_out(length: u64, at: impl Fn(u64) -> Option<Pulse>) -> (Verdict, u64) {
        try_out_where(true, length, at)
    }

    fn try_out_where(collects: bool, length: u64, at: impl Fn(u64) -> Option<Pulse>) -> (Verdict, u64) {
        let start = Instant::now();
        let mut trial = Trial::new(Duration::from_secs(length), "2.0.0".to_owned(), collects, start);
        for second in 0..1000 {
            let now = start + Duration::from_secs(second);
            if let Some(pulse) = at(second) {
                trial.beat(&pulse, now);
            }
            match trial.judge(now) {
                Verdict::Open => {}
                verdict => return (verdict, second),
            }
        }
        panic!("no verdict");
    }

    const GOOD: [Option<&str>; 3] = [Some("2.0.0"); 3];

    #[test]
    fn a_healthy_version_passes_after_its_time() {
        assert_eq!(
            try_out(60, |second| Some(pulse(if second < 5 { [None; 3] } else { GOOD }, false))),
            (Verdict::Passed, 65)
        );
        // Unlicensed, the collector is not expected.
        let unlicensed = |_| {
            let mut pulse = pulse(GOOD, false);
            pulse.versions.remove("collector");
            Some(pulse)
        };
        assert_eq!(try_out_where(false, 1, unlicensed), (Verdict::Passed, 1));
    }

    #[test]
    fn every_kind_of_illness_is_seen_in_time() {
        for (what, at) in [
            ("never ready", (|_| Some(pulse([Some("2.0.0"), None, Some("2.0.0")], false))) as fn(u64) -> Option<Pulse>),
            ("never a pulse", |_| None),
            ("hangs after a while", |second| (second < 20).then(|| pulse(GOOD, false))),
            ("wrong version", |_| Some(pulse([Some("2.0.0"), Some("1.0.0"), Some("2.0.0")], false))),
            ("breaks after 20 s", |second| Some(pulse(GOOD, second >= 20))),
            ("stops being ready", |second| Some(pulse(if second < 20 { GOOD } else { [None; 3] }, false))),
            ("only two of three", |_| {
                Some(Pulse { versions: [("agent".to_owned(), Some("2.0.0".to_owned()))].into(), ..Pulse::default() })
            }),
            ("no collector where there is a licence", |_| {
                let mut pulse = pulse(GOOD, false);
                pulse.versions.remove("collector");
                Some(pulse)
            }),
        ] {
            let (verdict, second) = try_out(60, at);
            assert!(matches!(verdict, Verdict::Failed(_)), "{what}: {verdict:?}");
            assert!(second <= 60 + 20, "{what}: {second} s");
        }
    }

    #[test]
    fn a_moment_of_not_being_ready_is_no_illness() {
        let at = |second: u64| {
            Some(pulse(if second % 10 == 3 { [Some("2.0.0"), None, Some("2.0.0")] } else { GOOD }, false))
        };
        assert_eq!(try_out(30, at).0, Verdict::Passed);
    }
}
