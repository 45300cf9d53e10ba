//! What the tests need of the system: installed with apt where it is missing, or named.

use std::path::Path;
use std::process::{Command, Stdio};

/// A file that has to be there, and the Debian package that brings it.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub file: &'static str,
    pub package: &'static str,
}

/// Installs what is missing.
///
/// # Errors
/// In words that say what to install by hand.
pub fn install(needs: &[Need]) -> Result<(), String> {
    let missing: Vec<&str> =
        needs.iter().filter(|need| !Path::new(need.file).exists()).map(|need| need.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let by_hand =
        format!("these Debian packages are missing: {packages}; install them with: apt-get install {packages}");
    if !rustix::process::geteuid().is_root() {
        return Err(by_hand);
    }
    println!("==> installing {packages}");
    for arguments in [vec!["update", "-q"], [vec!["install", "-q", "-y", "--no-install-recommends"], missing].concat()]
    {
        let mut apt = Command::new("apt-get");
        apt.args(&arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
        if !apt.status().is_ok_and(|status| status.success()) {
            return Err(format!("apt-get {} failed; {by_hand}", arguments[0]));
        }
    }
    Ok(())
}
