//! The watchdog: the launcher ([`launch`]) that no update changes, and the supervisor ([`supervise`]) that is a part of
//! each version, with the verbs around them.

#[cfg(windows)]
mod access;
mod backoff;
mod certificate;
mod check_config;
mod child_log;
mod configuration;
#[cfg(target_os = "linux")]
mod confine;
mod init;
mod launcher;
mod license;
mod move_database;
mod on_site;
mod process;
mod reset_pin;
mod restore;
mod service;
mod status;
mod supervise;
mod upgrade_launcher;

pub use check_config::check_config;
#[cfg(target_os = "linux")]
pub use confine::confine;
pub use init::{Init, init};
pub use launcher::launch;
pub use move_database::move_database;
pub use reset_pin::reset_pin;
pub use restore::restore;
#[cfg(windows)]
pub use service::windows::run as run_service;
pub use service::{DEFAULT_NAME, Service, Wish, service};
pub use status::show_status;
pub use supervise::supervise;
pub use upgrade_launcher::upgrade_launcher;

/// A path in a command line that people copy.
fn as_argument(path: &std::path::Path) -> String {
    let shown = path.display().to_string();
    if shown.contains(char::is_whitespace) { format!("\"{shown}\"") } else { shown }
}

/// Of a program of this workspace, as its file is called on this platform.
fn executable(program: &str) -> String {
    format!("{program}{}", std::env::consts::EXE_SUFFIX)
}
