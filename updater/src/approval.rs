//! The operator's approval of the package that was shown, recorded once.

use config::InstallRoot;
use durable::Lock;
use protocol::Failure;
use protocol::control::{PendingState, PendingUpdate};

use crate::boot_record::Attempt;
use crate::situation::version_of;
use crate::transition::Step;
use crate::{package, pending, progress, settle};

/// Why an approval was not recorded.
#[derive(Debug)]
pub enum NotApproved {
    NothingWaits,
    /// Another package waits now than the one that was shown: of this version.
    Replaced {
        version: String,
    },
    /// An update is under way.
    Busy,
    Failed(Failure),
}

/// Records in the boot record that this package is to be applied. The boot record takes no second approval.
///
/// # Errors
/// [`NotApproved`]; then nothing was recorded.
pub fn approve(root: &InstallRoot, manifest_sha256: &str) -> Result<PendingUpdate, NotApproved> {
    let Ok(_lock) = Lock::take(&root.update_lock()) else { return Err(NotApproved::Busy) };
    let waiting = pending::read(root).ok_or(NotApproved::NothingWaits)?;
    if waiting.manifest_sha256 != manifest_sha256 {
        return Err(NotApproved::Replaced { version: waiting.version });
    }
    let record = settle::log_waiting(root, settle::read_durable(root)?)?;
    let step = Step::Approve {
        id: Attempt::new_id(),
        manifest_sha256: manifest_sha256.to_owned(),
        from_version: version_of(&record.current)?,
        to_version: package::parse_version(&waiting.version).map_err(Failure::failed)?,
    };
    if record.after(step.clone()).is_err() {
        return Err(NotApproved::Busy);
    }
    settle::write(root, &record, step)?;
    progress::begin(root);
    // Only shows it: the boot record is what counts.
    if let Err(error) = pending::set_state(root, manifest_sha256, PendingState::Applying, None) {
        eprintln!("the approval cannot be shown: {error}");
    }
    Ok(waiting)
}

impl From<Failure> for NotApproved {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
