//! `publish license`: who may run Plantlink, from when to when.

use std::path::Path;

use durable::Access;
use protocol::license::License;
use protocol::signing::PrivateKey;
use protocol::{Failure, Timestamp};

/// Writes a signed licence.
///
/// # Errors
/// An unusable key or date, or a file that cannot be written.
pub fn write(license: &License, key: &PrivateKey, out: &Path) -> Result<(), Failure> {
    if license.valid_to <= license.valid_from {
        return Err(Failure::usage("--to lies before --from"));
    }
    Ok(durable::replace(out, &license.sign(key), Access::Shared)?)
}

/// A day (its first or last instant) or a time in RFC 3339 form.
///
/// # Errors
/// What is neither.
pub fn date(text: &str, last: bool) -> Result<Timestamp, String> {
    let time = if last { "T23:59:59.999999Z" } else { "T00:00:00Z" };
    Timestamp::parse(text)
        .or_else(|_| Timestamp::parse(&format!("{text}{time}")))
        .map_err(|_| format!("`{text}` is no date such as 2026-12-31"))
}
