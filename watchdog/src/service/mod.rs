//! `watchdog service`: makes the plant PC start the watchdog by itself.

#[cfg(windows)]
mod event_log;
#[cfg(not(windows))]
mod systemd;
#[cfg(windows)]
pub mod windows;

use std::path::{Path, PathBuf};

use config::{Credentials, InstallRoot};
use protocol::Failure;
use readings::Place;

use crate::on_site::no_root;
use crate::{as_argument, executable};

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
    /// [`DEFAULT_NAME`]; another where there is more than one install root.
    pub name: String,
    /// As [`crate::launch`] takes it.
    pub users: Option<String>,
}

impl Service {
    /// What is to be called next.
    fn how_to_start(&self, root: &InstallRoot) -> String {
        let launcher = root.path().join(executable("watchdog"));
        let name = if self.name == DEFAULT_NAME { String::new() } else { format!(" --name {}", self.name) };
        format!("start it now with: {} service start --root {}{name}", as_argument(&launcher), as_argument(root.path()))
    }

    /// Whose service has this name: that of another root is left alone.
    fn of_another_root(&self, runs: &str) -> Failure {
        let name = &self.name;
        Failure::usage(format!(
            "the service {name} is one of another install root ({runs}); name this one's with --name"
        ))
    }
}

/// Where a SQLite database lies outside the root: the service is to write there.
///
/// # Errors
/// A folder that is not its own: everything below it would be the service's.
fn database_folder(root: &InstallRoot) -> Result<Option<PathBuf>, Failure> {
    let url = Credentials::read_file(&root.credentials_file())?.database_url;
    let Some(Ok(Place::Sqlite(file))) = url.map(|url| readings::place(&url, root.path())) else { return Ok(None) };
    let outside = file.parent().filter(|folder| !folder.starts_with(root.path()));
    let system = ["SystemRoot", "ProgramFiles", "ProgramData"].map(std::env::var_os);
    let is_of_all = |folder: &Path| {
        folder.parent().is_none()
            || cfg!(windows) && system.iter().flatten().any(|of_all| Path::new(of_all).starts_with(folder))
    };
    match outside {
        Some(folder) if is_of_all(folder) => Err(Failure::configuration(format!(
            "{} needs a folder of its own: the service is let into all of {}; name another in config/credentials.env",
            file.display(),
            folder.display()
        ))),
        outside => Ok(outside.map(Path::to_owned)),
    }
}

/// Where there is one install root.
pub const DEFAULT_NAME: &str = "plantlink";

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
