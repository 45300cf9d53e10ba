//! What an update is made of, and every step of one.
//!
//! [`package`] is the format: `publish` writes with it what agent and watchdog read with it. [`version_directory`] is
//! what a package becomes, [`boot_record`] says which of them runs, [`transition`] how that may change and [`recovery`]
//! what is to be done about it. [`pending`] keeps the package that waits for the operator, [`apply`] applies it, and
//! [`settle`] brings whatever was begun to its end. ARCHITECTURE.md has the tables.

pub mod apply;
pub mod approval;
mod backup;
pub mod boot_record;
pub mod database;
mod lifeline;
pub mod package;
pub mod patch;
pub mod pending;
pub mod progress;
pub mod recovery;
pub mod restore;
pub mod settle;
pub mod situation;
pub mod transition;
pub mod trusted_keys;
pub mod trusted_time;
pub mod update_log;
pub mod version_directory;
