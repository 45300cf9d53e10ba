//! Who may read and write an install root on Windows: its owner, administrators, the system, and the account of the
//! service. Everything in it inherits that, also what is made later: keys, credentials, packages that wait.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use protocol::Failure;

/// By number, since their names are in the system's language: the system, administrators, whoever owns a file.
const ALWAYS: [&str; 3] = ["*S-1-5-18", "*S-1-5-32-544", "*S-1-3-4"];

/// Nobody else from here on.
///
/// # Errors
/// What `icacls` says.
pub fn close(folder: &Path) -> Result<(), Failure> {
    let mut arguments = vec!["/inheritance:r".to_owned()];
    for who in ALWAYS {
        arguments.extend(["/grant:r".to_owned(), format!("{who}:(OI)(CI)F")]);
    }
    icacls(folder, &arguments)
}

/// `account` may read and write as well.
///
/// # Errors
/// As [`close`].
pub fn grant(folder: &Path, account: &str) -> Result<(), Failure> {
    icacls(folder, &["/grant:r".to_owned(), format!("{account}:(OI)(CI)M")])
}

/// No longer.
///
/// # Errors
/// As [`close`].
pub fn take_back(folder: &Path, account: &str) -> Result<(), Failure> {
    icacls(folder, &["/remove".to_owned(), account.to_owned()])
}

/// The system's own, wherever PATH leads.
fn icacls(folder: &Path, arguments: &[String]) -> Result<(), Failure> {
    let system = std::env::var_os("SystemRoot").map_or_else(|| PathBuf::from(r"C:\Windows"), PathBuf::from);
    let mut command = Command::new(system.join(r"System32\icacls.exe"));
    command.arg(folder).args(arguments).arg("/Q").stdin(Stdio::null());
    let ended = command.output().map_err(|error| Failure::failed(format!("icacls could not be started: {error}")))?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(Failure::failed(format!(
            "icacls could not change who may use {}: {}{}",
            folder.display(),
            String::from_utf8_lossy(&ended.stdout).trim(),
            String::from_utf8_lossy(&ended.stderr).trim()
        ))),
    }
}
