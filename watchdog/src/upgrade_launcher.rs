//! `watchdog upgrade-launcher`: on site, puts the running version's watchdog in the launcher's place.
//!
//! The one before stays beside it as `watchdog.previous`. Killed at any moment, the launcher is the old or the new one. On
//! Windows, where a program that runs can only be renamed, there is none for a moment between two renames.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use config::InstallRoot;
use durable::Lock;
use protocol::Failure;
use updater::boot_record::Phase;
use updater::settle;
use updater::version_directory::hash_file;

use crate::executable;

/// Replaces this very program, which has to be the launcher of the root.
///
/// # Errors
/// An update under way, a program that does not start, or those of the disk.
pub fn upgrade_launcher(root: &InstallRoot) -> Result<(), Failure> {
    let launcher = root.path().join(executable("watchdog"));
    require_launcher(&launcher)?;
    let under_way = || Failure::try_later("an update is under way; upgrade the launcher when it is over");
    let _lock = Lock::take(&root.update_lock()).map_err(|_| under_way())?;
    let record = settle::read(root)?;
    if record.phase != Phase::Committed {
        return Err(under_way());
    }
    let new = root.versions().join(&record.current).join(executable("watchdog"));
    if hash_file(&new)? == hash_file(&launcher)? {
        println!("the launcher is the one of {} already", record.current);
        return Ok(());
    }
    require_that_it_starts(&new)?;
    let previous = previous_of(&launcher);
    copy(&launcher, &previous)?;
    replace(&launcher, &new)?;
    println!("the launcher is the one of {} now; the one before is {}", record.current, previous.display());
    println!("it takes over when the service is restarted");
    Ok(())
}

/// What is replaced is the program that runs, whatever it is called.
fn require_launcher(launcher: &Path) -> Result<(), Failure> {
    let canonical = |path: &Path| path.canonicalize().ok();
    let own = std::env::current_exe().ok().and_then(|own| canonical(&own));
    match own.is_some() && own == canonical(launcher) {
        true => Ok(()),
        false => Err(Failure::usage(format!("call {} itself: it replaces itself", launcher.display()))),
    }
}

/// A program for another machine would leave the plant PC without a launcher.
fn require_that_it_starts(program: &Path) -> Result<(), Failure> {
    let started = Command::new(program).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status();
    match started {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::failed(format!("{} --version ended with {status}", program.display()))),
        Err(error) => Err(Failure::failed(format!("{} does not start: {error}", program.display()))),
    }
}

fn previous_of(launcher: &Path) -> PathBuf {
    launcher.with_file_name(executable("watchdog.previous"))
}

/// Under its name only when it is whole.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let part = to.with_extension("part");
    durable::copy(from, &part)?;
    Ok(durable::rename(&part, to)?)
}

/// Flushed before it is renamed, which `self_replace` leaves to chance: after a power cut there would be an empty launcher.
#[cfg(unix)]
fn replace(launcher: &Path, new: &Path) -> Result<(), Failure> {
    copy(new, launcher)
}

#[cfg(not(unix))]
fn replace(launcher: &Path, new: &Path) -> Result<(), Failure> {
    Ok(self_replace::self_replace(new).map_err(|error| durable::name_error("replace", launcher, error))?)
}
