//! Where an update stands, in the one word that all pages go by.

use std::time::Duration;

use protocol::Timestamp;
use protocol::control::{Attempted, PendingState, PendingUpdate, PlantStatus, ProgressStep};

use crate::language::{Words, fill};

/// So long the pages say that an update went well, for whoever was not there.
const DONE_SHOWN: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Copy)]
pub enum Standing<'a> {
    Nothing,
    Waiting(&'a PendingUpdate),
    Postponed(&'a PendingUpdate),
    UnderWay(UnderWay<'a>),
    Failed(&'a PendingUpdate),
    /// Nothing waits, and an attempt has just gone well.
    Done(&'a Attempted),
}

#[derive(Clone, Copy)]
pub struct UnderWay<'a> {
    pub version: Option<&'a str>,
    pub percent: u8,
    /// The version from before is being put back.
    pub back: bool,
}

pub fn standing(status: &PlantStatus) -> Standing<'_> {
    let update = &status.update;
    if is_under_way(status) {
        let applying = update.pending.as_ref().filter(|pending| pending.state == PendingState::Applying);
        let last = update.progress.last();
        return Standing::UnderWay(UnderWay {
            version: applying.map(|pending| pending.version.as_str()),
            percent: last.map_or(0, |step| step.pct.min(100)),
            back: status.phase == "falling_back" || last.is_some_and(|step| step.step == FAILED),
        });
    }
    match (&update.pending, update.history.first()) {
        (Some(pending), _) => match pending.state {
            PendingState::Postponed => Standing::Postponed(pending),
            PendingState::Failed => Standing::Failed(pending),
            PendingState::Waiting | PendingState::Applying => Standing::Waiting(pending),
        },
        (None, Some(last)) if last.status == "ok" && Timestamp::now().since(last.time) < DONE_SHOWN => {
            Standing::Done(last)
        }
        (None, _) => Standing::Nothing,
    }
}

/// What waits, in a sentence.
pub fn received(pending: &PendingUpdate, words: &Words) -> String {
    said_of(pending, words.keys_received, words.update_waiting)
}

/// What has been put off.
pub fn put_off(pending: &PendingUpdate, words: &Words) -> String {
    said_of(pending, words.keys_postponed, words.update_postponed)
}

/// What came to nothing.
pub fn came_to_nothing(pending: &PendingUpdate, words: &Words) -> String {
    said_of(pending, words.keys_failed, words.update_failed)
}

/// What is done.
pub fn is_done(last: &Attempted, words: &Words) -> String {
    match (last.restored, last.is_of_keys()) {
        (true, _) => fill(words.put_back, &last.to_version),
        (false, true) => words.keys_done.to_owned(),
        (false, false) => fill(words.update_done, &last.to_version),
    }
}

fn said_of(pending: &PendingUpdate, of_keys: &str, of_version: &str) -> String {
    match pending.keys {
        Some(_) => of_keys.to_owned(),
        None => fill(of_version, &pending.version),
    }
}

/// From the operator's yes until one version, old or new, has been settled on.
pub fn is_under_way(status: &PlantStatus) -> bool {
    let applying = status.update.pending.as_ref().is_some_and(|pending| pending.state == PendingState::Applying);
    applying || !matches!(status.phase.as_str(), "" | "committed")
}

/// The last step of an attempt that did not succeed.
pub const FAILED: &str = "failed";

/// The step at which an attempt came to nothing, and what was said of it.
pub fn failure(progress: &[ProgressStep]) -> Option<(Option<&str>, &str)> {
    let (last, before) = progress.split_last()?;
    (last.step == FAILED).then(|| (before.last().map(|step| step.step.as_str()), last.msg.as_str()))
}
