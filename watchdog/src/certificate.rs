//! Self-signed certificates: the agent's, whose key HQ remembers, and the portal's, which browsers are told to trust.

use std::path::Path;

use config::{InstallRoot, Settings};
use durable::Access;
use protocol::Failure;

/// Makes a pair that is good for as long as the plant stands, unless both files are there. The first name is what people
/// read; all of them, names or IP addresses, are what it is good for.
///
/// # Errors
/// A name that no certificate may have, or a folder that cannot be written.
pub fn make(certificate_file: &Path, key_file: &Path, names: &[String]) -> Result<(), Failure> {
    if certificate_file.exists() && key_file.exists() {
        return Ok(());
    }
    let not_made = |error: rcgen::Error| Failure::failed(format!("could not make a certificate: {error}"));
    let key = rcgen::KeyPair::generate().map_err(not_made)?;
    let mut parameters = rcgen::CertificateParams::new(names).map_err(not_made)?;
    parameters.distinguished_name.push(rcgen::DnType::CommonName, names.first().map_or("plantlink", String::as_str));
    let certificate = parameters.self_signed(&key).map_err(not_made)?;
    // Key first: a certificate alone, after a kill in between, is made again together with its key.
    durable::replace(key_file, key.serialize_pem().as_bytes(), Access::Private)?;
    Ok(durable::replace(certificate_file, certificate.pem().as_bytes(), Access::Shared)?)
}

/// Makes the portal's pair where other machines may look and neither file is there. What somebody has begun to lay there
/// is left alone; the portal says what is missing.
///
/// # Errors
/// As [`make`].
pub fn make_for_portal(root: &InstallRoot, settings: &Settings) -> Result<(), Failure> {
    let [certificate, key] = [&settings.portal_cert_file, &settings.portal_key_file].map(|file| root.resolve(file));
    if settings.portal_bind.is_loopback() || certificate.exists() {
        return Ok(());
    }
    if let Some(folder) = key.parent() {
        std::fs::create_dir_all(folder).map_err(|error| durable::name_error("create", folder, error))?;
    }
    let bound = Some(settings.portal_bind).filter(|address| !address.is_unspecified());
    let mut names = settings.portal_hosts.clone();
    names.extend(bound.map(|address| address.to_string()));
    names.extend(["localhost", "127.0.0.1"].map(str::to_owned));
    make(&certificate, &key, &names)?;
    tracing::info!(certificate = %certificate.display(), ?names, "a certificate for the portal was made");
    Ok(())
}
