use daemon::Control;
use futures_util::future::BoxFuture;
use protocol::control::{Answer, Question};

/// Who decides what the portal may not: it holds the PIN, counts failures and records approvals.
pub trait Supervisor: Send + Sync {
    /// `None` if there is nobody to ask, or no answer in time.
    fn ask(&self, question: Question) -> BoxFuture<'_, Option<Answer>>;
}

impl Supervisor for Control {
    fn ask(&self, question: Question) -> BoxFuture<'_, Option<Answer>> {
        Box::pin(Control::ask(self, question))
    }
}
