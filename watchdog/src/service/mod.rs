//! `watchdog service`: makes the plant PC start the watchdog by itself.

#[cfg(windows)]
mod event_log;
#[cfg(not(windows))]
mod systemd;
#[cfg(windows)]
pub mod windows;

use config::InstallRoot;
use protocol::Failure;

use crate::on_site::no_root;

/// What to do with the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// With `print`: show what would be installed, and touch nothing.
    Install {
        print: bool,
    },
    Uninstall,
    Start,
    Stop,
    Status,
}

/// Which service.
#[derive(Clone, Debug)]
pub struct Service {
    /// `plantlink`; another where there is more than one install root.
    pub name: String,
    /// As [`crate::launch`] takes it.
    pub users: Option<String>,
}

/// # Errors
/// Without the rights for it, or what the service manager says.
pub fn service(root: &InstallRoot, service: &Service, wish: Wish) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if service.name.is_empty() || service.name.len() > 64 || !service.name.chars().all(plain) {
        return Err(Failure::usage("the service's name is of letters, digits, `-` and `_`"));
    }
    #[cfg(target_os = "linux")]
    service.users.as_deref().map_or(Ok(()), crate::confine::check_users)?;
    if wish != Wish::Uninstall && !root.boot_record().exists() {
        return Err(no_root(root));
    }
    #[cfg(windows)]
    return windows::service(root, service, wish);
    #[cfg(not(windows))]
    systemd::service(root, service, wish)
}
