//! `watchdog upgrade-launcher`: on site, puts the running version's watchdog in the launcher's place.
//!
//! The one before stays beside it as `watchdog.previous`. Killed at any moment, the launcher is the old or the new one. On
//! Windows, where a program that runs can only be renamed, there is none for a moment; for so long the service is one of the
//! previous launcher, which puts itself in the missing one's place when it starts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use config::InstallRoot;
use durable::{Lock, LockError};
use protocol::Failure;
#[cfg(windows)]
use protocol::Timestamp;
use updater::boot_record::Phase;
use updater::settle;
use updater::version_directory::hash_file;

use crate::executable;
#[cfg(windows)]
use crate::{Service, service::windows::Detour};

/// Replaces this very program, which has to be the launcher of the root. On Windows `service` is the one that starts it.
///
/// # Errors
/// An update under way, a program that does not start, or those of the disk.
pub fn upgrade_launcher(root: &InstallRoot, #[cfg(windows)] service: &Service) -> Result<(), Failure> {
    let launcher = launcher_of(root);
    require_launcher(&launcher)?;
    let under_way = || Failure::try_later("an update is under way; upgrade the launcher when it is over");
    let _lock = Lock::take(&root.update_lock()).map_err(|error| match error {
        LockError::Held(_) => under_way(),
        LockError::File(error) => error.into(),
    })?;
    let record = settle::read(root)?;
    if record.phase != Phase::Committed {
        return Err(under_way());
    }
    let new = root.versions().join(&record.current).join(executable("watchdog"));
    if hash_file(&new)? == hash_file(&launcher)? {
        #[cfg(windows)]
        if let Some(detour) = Detour::left_over(root, service)? {
            detour.end()?;
        }
        println!("the launcher is the one of {} already", record.current);
        return Ok(());
    }
    require_that_it_starts(&new)?;
    #[cfg(windows)]
    clear(root);
    let previous = previous_of(root);
    // One that runs, after a power cut in here, cannot be written to, and is what it should be.
    if !previous.exists() || hash_file(&previous)? != hash_file(&launcher)? {
        copy(&launcher, &previous)?;
    }
    #[cfg(unix)]
    replace(root, &new)?;
    #[cfg(windows)]
    replace(root, service, &new)?;
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

pub fn launcher_of(root: &InstallRoot) -> PathBuf {
    root.path().join(executable("watchdog"))
}

/// The launcher before the one that runs.
pub fn previous_of(root: &InstallRoot) -> PathBuf {
    root.path().join(executable("watchdog.previous"))
}

/// Under its name only when it is whole.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let part = to.with_extension("part");
    durable::copy(from, &part)?;
    Ok(durable::rename(&part, to)?)
}

#[cfg(unix)]
fn replace(root: &InstallRoot, new: &Path) -> Result<(), Failure> {
    copy(new, &launcher_of(root))
}

/// For a moment there is none. The previous one is there all the time.
#[cfg(windows)]
fn replace(root: &InstallRoot, service: &Service, new: &Path) -> Result<(), Failure> {
    let launcher = launcher_of(root);
    let detour = Detour::begin(root, service)?;
    if detour.is_none() {
        println!("no service {} starts this root; if power fails now, rename the previous launcher back", service.name);
    }
    let part = launcher.with_extension("part");
    let aside = root.path().join(format!("{ASIDE}{}.exe", Timestamp::now().as_micros()));
    durable::copy(new, &part)?;
    durable::rename(&launcher, &aside)?;
    if let Err(error) = durable::rename(&part, &launcher) {
        durable::rename(&aside, &launcher)?;
        return Err(error.into());
    }
    detour.map_or(Ok(()), Detour::end)
}

/// Launchers that were replaced, and may still have run.
#[cfg(windows)]
const ASIDE: &str = ".watchdog.replaced-";

/// Where `upgrade-launcher` was cut short, puts the previous launcher in the place of one that is missing, or of the new one:
/// the service is the previous one then. Returns the launcher.
///
/// # Errors
/// Those of the disk.
#[cfg(windows)]
pub fn mend(root: &InstallRoot) -> Result<PathBuf, Failure> {
    let (launcher, previous) = (launcher_of(root), previous_of(root));
    let runs_as_previous = std::env::current_exe().is_ok_and(|own| own.file_name() == previous.file_name());
    let is_whole = launcher.exists() && (!runs_as_previous || hash_file(&launcher)? == hash_file(&previous)?);
    if !is_whole {
        copy(&previous, &launcher)?;
    }
    clear(root);
    Ok(launcher)
}

#[cfg(windows)]
fn clear(root: &InstallRoot) {
    for file in std::fs::read_dir(root.path()).into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with(ASIDE) {
            // One that runs goes the next time.
            let _ = std::fs::remove_file(file.path());
        }
    }
}
