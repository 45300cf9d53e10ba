//! Passphrases come from files, so that they show in no list of processes.

use std::path::Path;

use protocol::Failure;

/// The first line of a file.
///
/// # Errors
/// An unreadable file or an empty line.
pub fn read(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::configuration(format!("could not read the passphrase in {}: {error}", file.display()))
    })?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Some(line.to_owned())),
        _ => {
            Err(Failure::configuration(format!("{} begins with an empty line instead of a passphrase", file.display())))
        }
    }
}
