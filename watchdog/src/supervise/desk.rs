//! Answers what portal and agent ask: is this the PIN, apply this package, take this delivery in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::InstallRoot;
use protocol::control::{Answer, Caller, EventKind, PendingState, Question, Secret};
use tokio::sync::Notify;
use updater::approval::{self, NotApproved};
use updater::pending::{self, NotTaken};

use super::board::Board;
use super::pin::PinJudge;
use super::updating;
use crate::configuration::Configuration;

/// What an update takes beside its trial: a migration, the restart, a fallback.
const SPOOL_MARGIN: Duration = Duration::from_secs(120);
const BUSY: &str = "an update is being applied";

pub struct Desk {
    root: InstallRoot,
    pub configuration: Arc<Configuration>,
    board: Arc<Board>,
    /// Questions are answered one after the other: a delivery that is being verified makes no approval fail.
    turn: Mutex<()>,
    pin: PinJudge,
    /// An approval is in the boot record.
    pub approved: Notify,
}

impl Desk {
    pub fn new(root: &InstallRoot, configuration: Arc<Configuration>, board: Arc<Board>) -> Self {
        let (root, pin) = (root.clone(), PinJudge::new(root));
        Self { root, configuration, board, turn: Mutex::new(()), pin, approved: Notify::new() }
    }

    /// Only the child that a question belongs to may ask it.
    pub async fn answer(self: Arc<Self>, child: &'static str, question: Question) -> Answer {
        let may = match &question {
            Question::Pin { .. }
            | Question::ChangePin { .. }
            | Question::Approve { .. }
            | Question::Postpone { .. } => child == "portal",
            Question::TakeIn { .. } => child == "agent",
        };
        if !may {
            return refused("not_yours", format!("{child} may not ask that"));
        }
        let answered = tokio::task::spawn_blocking(move || self.decide(question)).await;
        answered.unwrap_or_else(|error| refused("failed", format!("judging it failed: {error}")))
    }

    /// What has changed by it is told everybody before the answer.
    fn decide(&self, question: Question) -> Answer {
        let answer = self.judge(question);
        updating::show(&self.root, &self.board);
        answer
    }

    fn judge(&self, question: Question) -> Answer {
        match question {
            Question::Pin { pin, caller } => self.judge_pin(&pin, caller),
            Question::ChangePin { pin, new_pin, caller } => match self.judge_pin(&pin, caller) {
                Answer::Done => self.change_pin(new_pin),
                no => no,
            },
            Question::Approve { pin, caller, manifest_sha256 } => match self.judge_pin(&pin, caller) {
                Answer::Done => self.approve(&manifest_sha256),
                no => no,
            },
            Question::Postpone { manifest_sha256 } => self.postpone(&manifest_sha256),
            Question::TakeIn { file } => self.take_in(&file),
        }
    }

    fn judge_pin(&self, pin: &Secret, caller: Caller) -> Answer {
        let answer = self.pin.judge(&pin.0, caller);
        if let Answer::LockedOut { seconds } = &answer
            && self.pin.has_just_locked(caller)
        {
            let place = if caller == Caller::Local { "local" } else { "remote" };
            self.board.journal.note(EventKind::LockedOut, place, &seconds.to_string());
        }
        answer
    }

    /// `config.txt` and the like are a person's; this one line of the credentials is the operator's.
    fn change_pin(&self, new_pin: Secret) -> Answer {
        match crate::reset_pin::set_pin(&self.root, &new_pin.0) {
            Ok(()) => {
                self.configuration.pin_is_changed();
                tracing::info!("the operator has changed the PIN");
                self.board.journal.note(EventKind::PinChanged, "portal", "");
                Answer::Done
            }
            Err(failure) => refused("failed", failure.message),
        }
    }

    /// Records an approval, once: the boot record takes no second one.
    fn approve(&self, manifest_sha256: &str) -> Answer {
        let needed = self.configuration.settings().update_trial + SPOOL_MARGIN;
        if self.board.spool_seconds_left().is_some_and(|left| left < needed.as_secs_f64()) {
            let what = "the spool has no room for the time that an update takes; bring the database back first";
            return refused("no_room", what);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match approval::approve(&self.root, manifest_sha256) {
            Ok(approved) => {
                tracing::info!(version = approved.version, manifest_sha256, "the operator has approved the update");
                self.board.journal.note(EventKind::UpdateApproved, &approved.version, "");
                self.approved.notify_one();
                Answer::Done
            }
            Err(NotApproved::NothingWaits) => refused("nothing_waits", "no update waits"),
            Err(NotApproved::Replaced { version }) => replaced(&version),
            Err(NotApproved::Busy) => refused("busy", BUSY),
            Err(NotApproved::Failed(failure)) => refused("failed", failure.message),
        }
    }

    fn postpone(&self, manifest_sha256: &str) -> Answer {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(_lock) = durable::Lock::take(&self.root.update_lock()) else { return refused("busy", BUSY) };
        match pending::read(&self.root) {
            None => refused("nothing_waits", "no update waits"),
            Some(waiting) if waiting.manifest_sha256 != manifest_sha256 => replaced(&waiting.version),
            Some(waiting) if waiting.state == PendingState::Applying => refused("busy", BUSY),
            Some(_) => match pending::set_state(&self.root, manifest_sha256, PendingState::Postponed, None) {
                Ok(()) => Answer::Done,
                Err(error) => refused("failed", error.to_string()),
            },
        }
    }

    fn take_in(&self, file: &str) -> Answer {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(_lock) = durable::Lock::take(&self.root.update_lock()) else {
            return refused("busy", BUSY);
        };
        match pending::take_in(&self.root, &self.configuration.settings(), file) {
            Ok(taken) => {
                tracing::info!(version = taken.version, signers = ?taken.signers, "an update waits for the operator");
                self.board.journal.note(EventKind::UpdateReceived, &taken.version, "");
                Answer::Done
            }
            Err(NotTaken::Busy) => refused("busy", BUSY),
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

impl Desk {
    /// At the start, and after an attempt: keys, versions and time may have changed since the waiting package came.
    pub fn judge_waiting_package(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Held by somebody else, an update is under way, and what waits is being judged.
        let Ok(_lock) = durable::Lock::take(&self.root.update_lock()) else { return };
        match pending::judge_again(&self.root, &self.configuration.settings()) {
            Ok(refused) => {
                for refusal in refused {
                    tracing::warn!(%refusal, "a waiting update is no longer good");
                }
            }
            Err(failure) => tracing::error!(%failure, "the waiting update could not be judged"),
        }
    }
}

fn replaced(version: &str) -> Answer {
    refused("replaced", format!("another package has come meanwhile: version {version}"))
}

fn refused(status: &str, text: impl Into<String>) -> Answer {
    Answer::Refused { status: status.to_owned(), reason: None, text: text.into() }
}
