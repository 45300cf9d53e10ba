//! `publish license`: who may run Plantlink, from when to when.

use std::path::Path;

use durable::Access;
use protocol::license::License;
use protocol::signing::{PrivateKey, PublicKey};
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

/// Keygen lays three pairs side by side: where `license_public.pem` lies beside the key, it has to be its other half.
///
/// # Errors
/// If it is not: no plant would believe the licence.
pub fn check_key(file: &Path, key: &PrivateKey) -> Result<(), Failure> {
    let public = file.with_file_name("license_public.pem");
    if public.exists() && PublicKey::read(&public)?.id() != key.public_key().id() {
        let what = "is not the key that signs licences; give license_private.pem";
        return Err(Failure::usage(format!("{} {what}", file.display())));
    }
    Ok(())
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
