//! The pause before something that has failed is tried again: twice as long each time, and never all at the same moment.

use std::time::Duration;

use rand::Rng as _;

const FIRST: Duration = Duration::from_secs(1);

pub struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    pub fn new(longest: Duration) -> Self {
        Self { next: FIRST, longest }
    }

    /// After a failure: so long it is left alone.
    pub fn next(&mut self) -> Duration {
        let jittered = self.next.mul_f64(rand::thread_rng().gen_range(0.75..1.25));
        self.next = (self.next * 2).min(self.longest);
        jittered
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}
