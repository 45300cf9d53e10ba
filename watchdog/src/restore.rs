//! `watchdog restore`: puts a version back that was backed up before an update. On site, while the watchdog is stopped; so
//! plain that somebody can be talked through it on the phone.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use comfy_table::{Table, presets};
use config::InstallRoot;
use durable::Lock;
use protocol::Failure;
use protocol::control::{Answer, Caller};
use updater::restore::{Kept, Restored, list, look, restore as put_back};
use updater::update_log;

use crate::supervise::PinJudge;

/// Without a backup: lists those that there are. With one, a number of the list or a file: asks for the PIN and puts it
/// back.
///
/// # Errors
/// A watchdog that runs, a wrong PIN, or why the backup cannot be put back; then everything is as it was.
pub fn restore(root: &InstallRoot, backup: Option<&str>, pin: Option<String>) -> Result<(), Failure> {
    if !root.boot_record().exists() {
        let what = format!("{} is no install root; `watchdog init` makes one", root.path().display());
        return Err(Failure::configuration(what));
    }
    let kept = list(root)?;
    let Some(backup) = backup else { return show(root, &kept) };
    let chosen = choose(root, &kept, backup)?;
    let _only = Lock::take(&root.launcher_lock()).map_err(|_| {
        let what = "the watchdog runs; stop the service first (`watchdog service stop`, or end `watchdog run`), then \
                    call this again";
        Failure::failed(what)
    })?;
    require_owner(root)?;
    if std::env::var_os("DATABASE_URL").is_some() {
        let what =
            "DATABASE_URL is set in this shell; unset it, so that the database is the one of config/credentials.env";
        return Err(Failure::usage(what));
    }
    judge(root, pin)?;
    // A collector that outlived its watchdog would go on storing.
    daemon::runtime()?.block_on(crate::launcher::strays::wait_until_gone(&root.versions()));
    let Restored { version, from_version, carried_over } = put_back(root, &chosen)?;
    println!("version {version} is put back in the place of {from_version}");
    if let Some(readings) = carried_over {
        println!("{readings} readings that came since have been carried over");
    }
    println!("version {version} and later ones are taken as updates again; now start the service");
    Ok(())
}

/// What is laid here has to be the service's to change.
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

fn show(root: &InstallRoot, kept: &[Kept]) -> Result<(), Failure> {
    if kept.is_empty() {
        println!("there are no backups; each update writes one before it begins");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["number", "version", "backed up", "MB", "file"]);
    for (number, Kept { file, origin, bytes }) in kept.iter().enumerate() {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let at = name.trim_end_matches(".zip").rsplit_once('_').map(|(_, at)| at.to_owned()).unwrap_or_default();
        let megabytes = format!("{:.1}", *bytes as f64 / 1e6);
        table.add_row([(number + 1).to_string(), origin.version.to_string(), at, megabytes, name]);
    }
    println!("{table}");
    if let Some(last) = update_log::newest(root, 1).first() {
        println!("the last update: from {} to {}, {}", last.from_version, last.to_version, last.status);
    }
    println!("stop the service, then: watchdog restore --root {} NUMBER", root.path().display());
    Ok(())
}

fn choose(root: &InstallRoot, kept: &[Kept], backup: &str) -> Result<Kept, Failure> {
    if let Ok(number) = backup.parse::<usize>() {
        let chosen = number.checked_sub(1).and_then(|index| kept.get(index)).cloned();
        return chosen.ok_or_else(|| Failure::usage(format!("there is no backup {number}; there are {}", kept.len())));
    }
    let in_folder = root.backups().join(backup);
    look(if in_folder.exists() { &in_folder } else { Path::new(backup) })
}

/// Wrong ones count as at the portal.
fn judge(root: &InstallRoot, pin: Option<String>) -> Result<(), Failure> {
    let pin = match pin {
        Some(pin) => pin,
        None => {
            if std::io::stdin().is_terminal() {
                print!("the operator's PIN: ");
                std::io::stdout().flush()?;
            }
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            line.trim().to_owned()
        }
    };
    let judge = PinJudge::new(root);
    let mut answer = judge.judge(&pin, Caller::Local);
    if let Answer::LockedOut { seconds } = answer {
        // A lock begins anew with each process, so it is waited for in this one.
        println!("too many wrong PINs; this goes on in {seconds} seconds");
        std::thread::sleep(Duration::from_secs(seconds));
        answer = judge.judge(&pin, Caller::Local);
    }
    match answer {
        Answer::Done => Ok(()),
        Answer::WrongPin { tries_left } => {
            Err(Failure::refused(format!("this is not the operator's PIN; tries left: {tries_left}")))
        }
        Answer::LockedOut { seconds } => {
            Err(Failure::try_later(format!("too many wrong PINs; try again in {seconds} seconds")))
        }
        Answer::Refused { text, .. } => Err(Failure::configuration(text)),
    }
}
