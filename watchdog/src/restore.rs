//! `watchdog restore`: puts a version back that was backed up before an update. On site, while the watchdog is stopped; so
//! plain that somebody can be talked through it on the phone.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use comfy_table::{Table, presets};
use config::InstallRoot;
use protocol::Failure;
use protocol::control::{Answer, Caller};
use updater::restore::{Kept, Restored, list, look, obstacle, restore as put_back};
use updater::update_log;

use crate::on_site::{no_root, require_own_credentials, stopped};
use crate::supervise::PinJudge;

/// Without a backup: lists those that there are. With one, a number of the list or a file: asks for the PIN and puts it
/// back.
///
/// # Errors
/// A watchdog that runs, a wrong PIN, or why the backup cannot be put back; then everything is as it was.
pub fn restore(root: &InstallRoot, backup: Option<&str>, pin: Option<String>) -> Result<(), Failure> {
    if !root.boot_record().exists() {
        return Err(no_root(root));
    }
    let kept = list(root)?;
    let Some(backup) = backup else { return show(root, &kept) };
    let chosen = choose(root, &kept, backup)?;
    let _only = stopped(root)?;
    require_own_credentials()?;
    judge(root, pin)?;
    let Restored { version, from_version, carried_over } = put_back(root, &chosen)?;
    println!("version {version} is put back in the place of {from_version}");
    if let Some(readings) = carried_over {
        println!("{readings} readings that came since have been carried over");
    }
    println!("version {version} and later ones are taken as updates again; now start the service");
    Ok(())
}

fn show(root: &InstallRoot, kept: &[Kept]) -> Result<(), Failure> {
    if kept.is_empty() {
        println!("there are no backups; each update writes one before it begins");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "number",
        "version",
        "backed up",
        "MB",
        "can be put back",
    ]);
    for (number, backup) in kept.iter().enumerate() {
        let Kept { file, origin, bytes } = backup;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let at = name.rsplit_once('_').map(|(_, at)| readable(at)).unwrap_or_default();
        let megabytes = format!("{:.1}", *bytes as f64 / 1e6);
        let verdict = match obstacle(root, backup) {
            Ok(None) => "yes".to_owned(),
            Ok(Some(obstacle)) => format!("no: {obstacle}"),
            Err(failure) => failure.message,
        };
        table.add_row([(number + 1).to_string(), origin.version.to_string(), at, megabytes, verdict]);
    }
    println!("{table}");
    if let Some(last) = update_log::newest(root, 1).first() {
        println!("the last update: from {} to {}, {}", last.from_version, last.to_version, last.status);
    }
    println!("stop the service, then: watchdog restore --root {} NUMBER", root.path().display());
    Ok(())
}

/// `20260222T101000Z` for people.
fn readable(time: &str) -> String {
    match (time.get(0..4), time.get(4..6), time.get(6..8), time.get(9..11), time.get(11..13)) {
        (Some(year), Some(month), Some(day), Some(hour), Some(minute)) => {
            format!("{year}-{month}-{day} {hour}:{minute} UTC")
        }
        _ => time.to_owned(),
    }
}

fn choose(root: &InstallRoot, kept: &[Kept], backup: &str) -> Result<Kept, Failure> {
    if let Ok(number) = backup.parse::<usize>() {
        let chosen = number.checked_sub(1).and_then(|index| kept.get(index)).cloned();
        return chosen.ok_or_else(|| Failure::usage(format!("there is no backup {number}; there are {}", kept.len())));
    }
    let in_folder = root.backups().join(backup);
    look(if in_folder.exists() { &in_folder } else { Path::new(backup) })
}

/// A line from the terminal that does not show there, or from wherever the input comes.
fn ask(prompt: &str) -> Result<String, Failure> {
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal {
        print!("{prompt}");
        std::io::stdout().flush()?;
    }
    let shown = hide_input(is_terminal);
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if let Some(shown) = shown {
        shown();
        println!();
    }
    read?;
    Ok(line)
}

/// What shows it again.
#[cfg(unix)]
fn hide_input(is_terminal: bool) -> Option<Box<dyn FnOnce()>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let shown = is_terminal.then(|| tcgetattr(std::io::stdin()).ok()).flatten()?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(std::io::stdin(), OptionalActions::Now, &hidden).ok()?;
    Some(Box::new(move || {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &shown);
    }))
}

#[cfg(not(unix))]
fn hide_input(_: bool) -> Option<Box<dyn FnOnce()>> {
    None
}

/// Wrong ones count as at the portal.
fn judge(root: &InstallRoot, pin: Option<String>) -> Result<(), Failure> {
    let pin = match pin {
        Some(pin) => pin,
        None => {
            let line = ask("the operator's PIN: ")?;
            line.trim().to_owned()
        }
    };
    if pin.is_empty() {
        return Err(Failure::usage("no PIN was given; type it, or give it with --pin"));
    }
    let judge = PinJudge::new(root);
    let mut answer = judge.judge(&pin, Caller::Local);
    if let Answer::LockedOut { seconds } = answer {
        // A lock begins anew with each process, so it is waited for in this one.
        println!(
            "there were too many wrong PINs; this goes on in {seconds} seconds (or end it, and set another PIN with \
             `watchdog reset-pin`)"
        );
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
