use std::sync::Mutex;

use futures_util::future::BoxFuture;
use portal::{PlantStatusFeed, Supervisor};
use protocol::control::{Answer, Question};

pub const PIN: &str = "471123";

/// A supervisor that keeps the PIN and remembers what it was asked.
pub struct Keeper {
    status: PlantStatusFeed,
    asked: Mutex<Vec<Question>>,
    always: Mutex<Option<Option<Answer>>>,
}

impl Keeper {
    pub fn of(status: PlantStatusFeed) -> Self {
        Self { status, asked: Mutex::default(), always: Mutex::default() }
    }

    /// Whatever the question, from now on.
    pub fn answers(&self, answer: Option<Answer>) {
        *self.always.lock().unwrap() = Some(answer);
    }

    /// What it was asked since this was last looked at.
    pub fn asked(&self) -> Vec<Question> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn judge(&self, question: &Question) -> Answer {
        let status = self.status.borrow();
        let waits = status.as_ref().and_then(|status| Some(status.update.pending.as_ref()?.manifest_sha256.clone()));
        match question {
            Question::Pin { pin, .. } | Question::Approve { pin, .. } if pin.0 != PIN => {
                Answer::WrongPin { tries_left: 4 }
            }
            Question::Approve { manifest_sha256, .. } | Question::Postpone { manifest_sha256 }
                if waits.as_ref() != Some(manifest_sha256) =>
            {
                Answer::Refused { status: "replaced".into(), reason: None, text: "another package waits".into() }
            }
            _ => Answer::Done,
        }
    }
}

impl Supervisor for Keeper {
    fn ask(&self, question: Question) -> BoxFuture<'_, Option<Answer>> {
        let answer = self.always.lock().unwrap().clone().unwrap_or_else(|| Some(self.judge(&question)));
        self.asked.lock().unwrap().push(question);
        Box::pin(async { answer })
    }
}
