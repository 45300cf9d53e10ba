//! What an update is made of. At present: version directories, and the boot record that says which of them runs.

pub mod boot_record;
pub mod version_directory;
