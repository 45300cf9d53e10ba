//! A time that nobody turns back: by it packages and licences expire.

use std::fmt;

use config::InstallRoot;
use protocol::Timestamp;
use serde::Deserialize;

/// The clock, and the floor under it that signed timestamps have raised: setting the clock back extends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedTime {
    pub clock: Timestamp,
    /// None, or 1970, as long as nobody has signed one here.
    pub floor: Option<Timestamp>,
}

/// A few times and their names.
const LARGEST_BYTES: u64 = 64 << 10;

/// By this machine's clock.
pub fn now(root: &InstallRoot) -> Timestamp {
    TrustedTime::read(root, Timestamp::now()).now()
}

impl TrustedTime {
    /// With the floor that the agent keeps.
    pub fn read(root: &InstallRoot, clock: Timestamp) -> Self {
        #[derive(Deserialize)]
        struct Times {
            floor: Option<Timestamp>,
        }
        // The agent's file: a pipe in its place must not keep the plant from starting.
        let times = durable::read_plain(&root.trusted_time(), LARGEST_BYTES).ok();
        let floor = times.and_then(|bytes| serde_json::from_slice::<Times>(&bytes).ok()).and_then(|times| times.floor);
        Self { clock, floor }
    }

    /// The later of the two.
    pub fn now(self) -> Timestamp {
        self.floor.map_or(self.clock, |floor| floor.max(self.clock))
    }
}

/// Says which of the two it is, so that whoever reads it sees a clock that is wrong.
impl fmt::Display for TrustedTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clock, floor } = self;
        match floor.filter(|floor| *floor > Timestamp::EPOCH) {
            None => write!(formatter, "{clock} by this machine's clock, and no signed time is known here"),
            Some(floor) if floor > *clock => {
                write!(formatter, "{floor} by a signed time, though this machine's clock says {clock}")
            }
            Some(floor) => write!(formatter, "{clock} by this machine's clock; the latest signed time here is {floor}"),
        }
    }
}
