//! Is this plant PC licensed? Asked once at the start; a plant that runs is never stopped for it.

use std::path::Path;

use config::{InstallRoot, Settings};
use protocol::license::License;
use protocol::signing::PublicKey;
use updater::trusted_time;

/// `Ok` if no licence is asked for, or a valid one is there; else what the operator should do.
pub fn check(root: &InstallRoot, settings: &Settings) -> Result<(), String> {
    let Some(file) = &settings.license_file else { return Ok(()) };
    let path = root.resolve(file);
    let content = std::fs::read(&path)
        .map_err(|_| format!("there is no licence in {}; ask for one and put it there", path.display()))?;
    let keys = PublicKey::read_all(&root.license_key_file()).map_err(|error| error.to_string())?;
    let license =
        License::check(&content, &keys, trusted_time::now(root), &machine_id()).map_err(|error| error.to_string())?;
    tracing::info!(client_id = %license.client_id, valid_to = %license.valid_to, "licensed");
    Ok(())
}

/// What names this machine: systemd's machine id; elsewhere its host name.
fn machine_id() -> String {
    let first_line = |path: &Path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    first_line(Path::new("/etc/machine-id"))
        .filter(|id| !id.is_empty())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
