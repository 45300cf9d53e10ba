//! Self-signed certificates: the agent's, whose key HQ remembers, and the portal's, which browsers are told to trust.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use config::{InstallRoot, Settings};
use daemon::server::Certificate;
use durable::Access;
use protocol::Failure;

/// Makes a certificate that is good for as long as the plant stands, unless there is one, and its key, unless there is one:
/// neither is ever written over. The first name is what people read; all of them, names or IP addresses, are what it is good
/// for.
///
/// # Errors
/// A key that cannot be used, a name that no certificate may have, or a folder that cannot be written.
pub fn make(certificate_file: &Path, key_file: &Path, names: &[String]) -> Result<(), Failure> {
    // A key of ours would not be its own; whoever laid it has the other.
    if certificate_file.exists() {
        return Ok(());
    }
    let not_made = |error: rcgen::Error| {
        Failure::failed(format!("could not make the certificate {}: {error}", certificate_file.display()))
    };
    for folder in [certificate_file, key_file].into_iter().filter_map(Path::parent) {
        fs::create_dir_all(folder).map_err(|error| durable::name_error("create", folder, error))?;
    }
    let key = match key_file.exists() {
        true => {
            let pem = fs::read_to_string(key_file).map_err(|error| durable::name_error("read", key_file, error))?;
            rcgen::KeyPair::from_pem(&pem).map_err(not_made)?
        }
        false => {
            let key = rcgen::KeyPair::generate().map_err(not_made)?;
            durable::replace(key_file, key.serialize_pem().as_bytes(), Access::Private)?;
            key
        }
    };
    // Only behind its key: what a kill leaves in between is completed with that key.
    let mut parameters = rcgen::CertificateParams::new(names).map_err(not_made)?;
    parameters.distinguished_name.push(rcgen::DnType::CommonName, names.first().map_or("plantlink", String::as_str));
    let certificate = parameters.self_signed(&key).map_err(not_made)?;
    Ok(durable::replace(certificate_file, certificate.pem().as_bytes(), Access::Shared)?)
}

/// Makes the portal's pair where other machines may look and neither file is there. What somebody has begun to lay there
/// is left alone; the portal says what is missing.
///
/// # Errors
/// As [`make`].
pub fn make_for_portal(root: &InstallRoot, settings: &Settings) -> Result<(), Failure> {
    let [certificate, key] = [&settings.portal_cert_file, &settings.portal_key_file].map(|file| root.resolve(file));
    if settings.portal_bind.is_loopback() || certificate.exists() || key.exists() {
        return Ok(());
    }
    let bound = Some(settings.portal_bind).filter(|address| !address.is_unspecified());
    // Without a port, and IPv6 without its brackets.
    let plain = |name: &String| match name.parse::<IpAddr>() {
        Ok(_) => name.clone(),
        Err(_) => name.rsplit_once(':').map_or(name.as_str(), |(host, _)| host).trim_matches(['[', ']']).to_owned(),
    };
    let mut names: Vec<String> = settings.portal_hosts.iter().map(plain).collect();
    names.extend(bound.map(|address| address.to_string()));
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    make(&certificate, &key, &names)?;
    tracing::info!(certificate = %certificate.display(), ?names, "a certificate for the portal was made");
    Ok(())
}

/// The portal's pair, where other machines may look and somebody has laid a part of it: before, it is about to be made.
///
/// # Errors
/// It is not usable.
pub fn check_of_portal(root: &InstallRoot, settings: &Settings) -> Result<(), Failure> {
    let [certificate, key] = [&settings.portal_cert_file, &settings.portal_key_file].map(|file| root.resolve(file));
    if settings.portal_bind.is_loopback() || !certificate.exists() && !key.exists() {
        return Ok(());
    }
    Certificate::load(&certificate, &key).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(bind: &str) -> Settings {
        let hosts = ["plant-pc.local:8000", "[fe80::1]", "10.0.0.7"].map(str::to_owned);
        Settings { portal_bind: bind.parse().unwrap(), portal_hosts: hosts.into(), ..Settings::default() }
    }

    #[test]
    fn the_portals_pair_is_made_where_it_is_needed_and_nobodys_key_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let root = InstallRoot::new(folder.path());
        let [certificate, key] = ["portal/cert.pem", "portal/key.pem"].map(|file| root.resolve(file));
        make_for_portal(&root, &settings("127.0.0.1")).unwrap();
        assert!(!certificate.exists() && !key.exists(), "nobody looks from elsewhere");
        make_for_portal(&root, &settings("0.0.0.0")).unwrap();
        Certificate::load(&certificate, &key).unwrap();
        let laid = fs::read(&key).unwrap();
        fs::remove_file(&certificate).unwrap();
        make_for_portal(&root, &settings("0.0.0.0")).unwrap();
        assert!(!certificate.exists(), "somebody waits for his own");
        make(&certificate, &key, &["plant".to_owned()]).unwrap();
        assert_eq!(fs::read(&key).unwrap(), laid, "completed with the key that was there");
        Certificate::load(&certificate, &key).unwrap();
        fs::remove_file(&key).unwrap();
        make(&certificate, &key, &["plant".to_owned()]).unwrap();
        assert!(!key.exists(), "a key of ours would not be this certificate's");
    }
}
