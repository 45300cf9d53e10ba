use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::Rng as _;

/// When a child that ended is started again.
#[derive(Debug)]
pub struct Backoff {
    next_seconds: u64,
    /// Left only by a minute of health.
    crash_loop: bool,
    exits: VecDeque<Instant>,
}

/// What to do about an exit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pause {
    Short(Duration),
    /// It keeps ending at once; shown to people, and tried again for ever.
    CrashLoop(Duration),
}

/// A child that ran so long was healthy: its pauses begin anew.
const HEALTHY: Duration = Duration::from_secs(60);
const LONGEST_SECONDS: u64 = 60;
const CRASH_LOOP_EXITS: usize = 5;
const CRASH_LOOP_WITHIN: Duration = Duration::from_secs(60);
const CRASH_LOOP_PAUSE: Duration = Duration::from_secs(300);

impl Backoff {
    pub fn new() -> Self {
        Self { next_seconds: 1, crash_loop: false, exits: VecDeque::new() }
    }

    /// The child ended at `now` after running for `ran`.
    pub fn exited(&mut self, now: Instant, ran: Duration) -> Pause {
        if ran >= HEALTHY {
            *self = Self::new();
        }
        self.exits.push_back(now);
        self.exits.retain(|exit| now.duration_since(*exit) <= CRASH_LOOP_WITHIN);
        self.crash_loop |= self.exits.len() > CRASH_LOOP_EXITS;
        if self.crash_loop {
            return Pause::CrashLoop(CRASH_LOOP_PAUSE);
        }
        let seconds = self.next_seconds;
        self.next_seconds = (seconds * 2).min(LONGEST_SECONDS);
        // Jitter, so that children that fell together do not rise together.
        Pause::Short(Duration::from_secs(seconds).mul_f64(rand::thread_rng().gen_range(0.8..1.2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(pause: Pause) -> f64 {
        match pause {
            Pause::Short(pause) | Pause::CrashLoop(pause) => pause.as_secs_f64(),
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_minute_of_health() {
        let (mut backoff, mut now) = (Backoff::new(), Instant::now());
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            now += Duration::from_secs(61);
            let pause = seconds(backoff.exited(now, Duration::from_secs(1)));
            assert!((pause / expected - 1.0).abs() <= 0.2, "{pause} instead of {expected}");
        }
        assert!(seconds(backoff.exited(now, HEALTHY)) < 1.3);
    }

    #[test]
    fn six_exits_in_a_minute_are_a_crash_loop() {
        let (mut backoff, now) = (Backoff::new(), Instant::now());
        for at in 0..5 {
            assert!(matches!(backoff.exited(now + Duration::from_secs(at), Duration::ZERO), Pause::Short(_)));
        }
        assert_eq!(backoff.exited(now + Duration::from_secs(5), Duration::ZERO), Pause::CrashLoop(CRASH_LOOP_PAUSE));
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(backoff.exited(later(400), Duration::ZERO), Pause::CrashLoop(CRASH_LOOP_PAUSE), "for ever");
        assert!(matches!(backoff.exited(later(800), HEALTHY), Pause::Short(_)), "until it was healthy");
    }
}
