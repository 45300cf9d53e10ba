//! What is the same for every verb that changes a root while nothing of it runs.

use config::InstallRoot;
use durable::Lock;
use protocol::Failure;

use crate::launcher::strays::wait_until_gone_here;

/// Nothing of the plant runs while this is held, and what is written here is the service's to change.
///
/// # Errors
/// A watchdog that runs, or a root of another user.
pub fn stopped(root: &InstallRoot) -> Result<Lock, Failure> {
    if !root.boot_record().exists() {
        return Err(no_root(root));
    }
    let only = Lock::take(&root.launcher_lock()).map_err(|_| {
        let what = "the watchdog runs; stop the service first (or end `watchdog run`), then call this again";
        Failure::failed(what)
    })?;
    require_owner(root)?;
    // One that outlived its watchdog would go on storing.
    wait_until_gone_here(&root.versions());
    Ok(only)
}

/// The database has to be the one that the service works with.
///
/// # Errors
/// Another one in this shell's environment.
pub fn require_own_credentials() -> Result<(), Failure> {
    match std::env::var_os("DATABASE_URL") {
        None => Ok(()),
        Some(_) => Err(Failure::usage(
            "DATABASE_URL is set in this shell; unset it, so that the database is the one of config/credentials.env",
        )),
    }
}

/// For whoever names a folder that is none.
pub fn no_root(root: &InstallRoot) -> Failure {
    Failure::configuration(format!("{} is no install root; `watchdog init` makes one", root.path().display()))
}

#[cfg(unix)]
fn require_owner(root: &InstallRoot) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = std::fs::metadata(root.boot_record())?.uid();
    match owner == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "this install root belongs to user {owner}; call this as that user, or the service cannot write what is put back"
        ))),
    }
}

#[cfg(not(unix))]
fn require_owner(_: &InstallRoot) -> Result<(), Failure> {
    Ok(())
}
