//! A time that nobody turns back: by it packages and licences expire.

use config::InstallRoot;
use protocol::Timestamp;
use serde::Deserialize;

/// The later of the clock and the floor that signed timestamps have raised: setting the clock back extends nothing.
pub fn now(root: &InstallRoot) -> Timestamp {
    #[derive(Deserialize)]
    struct Times {
        floor: Option<Timestamp>,
    }
    let times = std::fs::read(root.trusted_time()).ok();
    let floor = times.and_then(|bytes| serde_json::from_slice::<Times>(&bytes).ok()).and_then(|times| times.floor);
    Timestamp::now().max(floor.unwrap_or(Timestamp::EPOCH))
}
