//! Who we are to servers, and who they have to be.

use std::path::{Path, PathBuf};

use config::{InstallRoot, OpcuaSource};
use durable::Access;
use opcua_crypto::{X509, X509Data};
use opcua_types::EndpointDescription;
use rsa::pkcs8::der::pem::PemLabel as _;
use rsa::pkcs8::{LineEnding, PrivateKeyInfo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

/// In our certificate, and in what we say of ourselves: servers compare the two.
pub const APPLICATION_URI: &str = "urn:plantlink:collector";

/// A server trusts this very certificate: another would have to be trusted anew, by a person who goes there.
const DAYS: u32 = 20 * 365;
const KEY_BITS: u32 = 2048;

/// What is kept for connections, below the collector's state.
pub struct Folder(PathBuf);

impl Folder {
    pub fn of(root: &InstallRoot) -> Self {
        Self(root.collector_state().join("opcua"))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn certificate(&self) -> PathBuf {
        self.0.join("own.der")
    }

    pub fn key(&self) -> PathBuf {
        self.0.join("own.pem")
    }

    /// Makes our key and certificate if there are none; a second's work.
    pub fn ensure_own(&self) -> Result<(), String> {
        // The certificate is written last: with it, all of this is there.
        if self.certificate().exists() {
            return Ok(());
        }
        let named = |what: &dyn std::fmt::Display| format!("{}: {what}", self.0.display());
        std::fs::create_dir_all(&self.0).map_err(|error| named(&error))?;
        let description = X509Data {
            key_size: KEY_BITS,
            common_name: "Plantlink collector".to_owned(),
            organization: "Plantlink".to_owned(),
            organizational_unit: String::new(),
            country: String::new(),
            state: String::new(),
            alt_host_names: X509Data::alt_host_names(APPLICATION_URI, None, false, true, false),
            certificate_duration_days: DAYS,
        };
        let (certificate, key) = X509::cert_and_pkey(&description).map_err(|error| named(&error))?;
        let key = key.to_der().map_err(|error| named(&error))?;
        let key = key.to_pem(PrivateKeyInfo::PEM_LABEL, LineEnding::LF).map_err(|error| named(&error))?;
        let certificate = certificate.to_der().map_err(|error| named(&error))?;
        durable::replace(&self.key(), key.as_bytes(), Access::Private).map_err(|error| error.to_string())?;
        durable::replace(&self.certificate(), &certificate, Access::Shared).map_err(|error| error.to_string())
    }

    /// Whether the server is the one that the engineer has named. One that is not leaves its certificate here, to be
    /// compared with what stands on the device.
    pub fn check_server(
        &self,
        source: &OpcuaSource,
        root: &InstallRoot,
        endpoint: &EndpointDescription,
    ) -> Result<(), String> {
        let shown = endpoint.server_certificate.as_ref();
        let what = match &source.server_certificate {
            Some(file) => {
                let trusted = read_certificate(&root.resolve(file))?;
                // Behind it those may stand that have signed it.
                if !trusted.is_empty() && shown.starts_with(&trusted) {
                    return Ok(());
                }
                format!("the server does not show the certificate {}", file.display())
            }
            None => "no server_certificate says which server is the right one".to_owned(),
        };
        let offered = self.0.join(format!("{}.offered.der", source.name));
        durable::replace(&offered, shown, Access::Shared).map_err(|error| error.to_string())?;
        let digest: String = Sha256::digest(shown).iter().map(|byte| format!("{byte:02x}")).collect();
        Err(format!(
            "{what}; what it shows is now in {} (SHA-256 {digest}): if that is the device's, copy it to config/ and name \
             it as server_certificate",
            offered.display()
        ))
    }
}

fn read_certificate(file: &Path) -> Result<Vec<u8>, String> {
    let named = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
    let bytes = std::fs::read(file).map_err(|error| named(&error))?;
    if bytes.starts_with(b"-----") {
        let certificate = CertificateDer::from_pem_slice(&bytes).map_err(|error| named(&error))?;
        return Ok(certificate.to_vec());
    }
    Ok(bytes)
}
