//! Answers what portal and agent ask: is this the PIN, apply this package, take this delivery in.

use std::sync::Arc;

use config::{InstallRoot, Settings};
use protocol::Failure;
use protocol::control::{Answer, PendingState, Question};
use tokio::sync::Notify;
use updater::boot_record::BootRecord;
use updater::pending::{self, NotTaken};
use updater::situation::version_of;
use updater::transition::Step;
use updater::{package, settle};

use super::pin::PinJudge;

pub struct Desk {
    root: InstallRoot,
    settings: Settings,
    pin: PinJudge,
    /// An approval is in the boot record.
    pub approved: Notify,
}

impl Desk {
    pub fn new(root: &InstallRoot, settings: &Settings) -> Self {
        Self { root: root.clone(), settings: settings.clone(), pin: PinJudge::new(root), approved: Notify::new() }
    }

    /// Only the child that a question belongs to may ask it.
    pub async fn answer(self: Arc<Self>, child: &'static str, question: Question) -> Answer {
        let may = match &question {
            Question::Pin { .. } | Question::Approve { .. } | Question::Postpone { .. } => child == "portal",
            Question::TakeIn { .. } => child == "agent",
        };
        if !may {
            return refused("not_yours", format!("{child} may not ask that"));
        }
        let answered = tokio::task::spawn_blocking(move || self.decide(question)).await;
        answered.unwrap_or_else(|error| refused("failed", format!("judging it failed: {error}")))
    }

    fn decide(&self, question: Question) -> Answer {
        match question {
            Question::Pin { pin, caller } => self.pin.judge(&pin.0, caller),
            Question::Approve { pin, caller, manifest_sha256 } => match self.pin.judge(&pin.0, caller) {
                Answer::Done => self.approve(&manifest_sha256),
                no => no,
            },
            Question::Postpone { manifest_sha256 } => self.postpone(&manifest_sha256),
            Question::TakeIn { file } => self.take_in(&file),
        }
    }

    /// Records an approval, once: the boot record takes no second one.
    fn approve(&self, manifest_sha256: &str) -> Answer {
        let failed = |failure: Failure| refused("failed", failure.message);
        let Ok(_lock) = durable::Lock::take(&self.root.update_lock()) else {
            return refused("busy", "an update is being applied");
        };
        let Some(waiting) = pending::read(&self.root) else {
            return refused("nothing_waits", "no update waits");
        };
        if waiting.manifest_sha256 != manifest_sha256 {
            return refused("replaced", format!("another package has come meanwhile: version {}", waiting.version));
        }
        let approved = (|| {
            let record = settle::read(&self.root)?;
            let step = Step::Approve {
                id: format!("{:032x}", rand::random::<u128>()),
                manifest_sha256: manifest_sha256.to_owned(),
                from_version: version_of(&record.current)?,
                to_version: package::parse_version(&waiting.version).map_err(Failure::failed)?,
            };
            if record.after(step.clone()).is_err() {
                return Ok(None);
            }
            settle::write(&self.root, &record, step).map(Some)
        })();
        match approved {
            Err(failure) => failed(failure),
            Ok(None) => refused("busy", "an update is being applied"),
            Ok(Some(BootRecord { .. })) => {
                tracing::info!(version = waiting.version, manifest_sha256, "the operator has approved the update");
                // Informative: the boot record says it.
                let _ = pending::set_state(&self.root, manifest_sha256, PendingState::Applying, None);
                self.approved.notify_one();
                Answer::Done
            }
        }
    }

    fn postpone(&self, manifest_sha256: &str) -> Answer {
        match pending::read(&self.root) {
            None => refused("nothing_waits", "no update waits"),
            Some(waiting) if waiting.manifest_sha256 != manifest_sha256 => {
                refused("replaced", format!("another package has come meanwhile: version {}", waiting.version))
            }
            Some(waiting) if waiting.state == PendingState::Applying => refused("busy", "it is being applied"),
            Some(_) => match pending::set_state(&self.root, manifest_sha256, PendingState::Postponed, None) {
                Ok(()) => Answer::Done,
                Err(error) => refused("failed", error.to_string()),
            },
        }
    }

    fn take_in(&self, file: &str) -> Answer {
        let Ok(_lock) = durable::Lock::take(&self.root.update_lock()) else {
            return refused("busy", "an update is being applied");
        };
        match pending::take_in(&self.root, &self.settings, file) {
            Ok(taken) => {
                tracing::info!(version = taken.version, signers = ?taken.signers, "an update waits for the operator");
                Answer::Done
            }
            Err(NotTaken::Busy) => refused("busy", "an update is being applied"),
            Err(NotTaken::Refused(refusal)) => {
                tracing::warn!(reason = refusal.code.word(), detail = refusal.detail, "an update package was refused");
                let reason = Some(refusal.code.word().to_owned());
                Answer::Refused { status: refusal.code.status().to_owned(), reason, text: refusal.detail }
            }
            Err(NotTaken::Failed(failure)) => {
                tracing::error!(%failure, "an update package could not be taken in");
                refused("failed", failure.message)
            }
        }
    }
}

fn refused(status: &str, text: impl Into<String>) -> Answer {
    Answer::Refused { status: status.to_owned(), reason: None, text: text.into() }
}
