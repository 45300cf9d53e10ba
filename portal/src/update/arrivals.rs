//! Whether more than one package has been waiting: then a yes has to say to which.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

#[derive(Default)]
pub struct Arrivals(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// The hash of the package that waits now, or was the last to wait.
    latest: Option<String>,
    /// When that one stopped waiting, if it has.
    latest_left: Option<Instant>,
    /// When any other was last seen waiting.
    other_left: Option<Instant>,
}

impl Arrivals {
    pub fn observe(&self, waiting: Option<&str>, now: Instant) {
        let seen = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = waiting else {
            seen.latest_left.get_or_insert(now);
            return;
        };
        if seen.latest.as_deref() != Some(waiting) {
            if seen.latest.is_some() {
                seen.other_left = Some(seen.latest_left.unwrap_or(now));
            }
            seen.latest = Some(waiting.to_owned());
        }
        seen.latest_left = None;
    }

    /// Whether packages of different content have waited since then.
    pub fn several_since(&self, since: Instant) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.other_left.is_some_and(|left| left >= since)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_waited_in_the_given_time_counts() {
        let (arrivals, start) = (Arrivals::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        arrivals.observe(None, at(0));
        arrivals.observe(Some("one"), at(1));
        arrivals.observe(None, at(2));
        arrivals.observe(Some("one"), at(3));
        assert!(!arrivals.several_since(start), "the same package came back");
        arrivals.observe(None, at(4));
        arrivals.observe(Some("two"), at(9));
        assert!(arrivals.several_since(at(4)) && !arrivals.several_since(at(5)));
        arrivals.observe(Some("one"), at(10));
        assert!(arrivals.several_since(at(10)) && !arrivals.several_since(at(11)));
    }
}
