//! What an update is made of, and every step of one. [`package`] is the format: `publish` writes with it what agent and
//! watchdog read with it. [`version_directory`] is what a package becomes, [`boot_record`] says which of them runs.

pub mod boot_record;
pub mod package;
pub mod version_directory;
