//! Who we are to servers, and who they have to be.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use config::{InstallRoot, OpcuaSource, read_certificates};
use durable::Access;
use opcua_crypto::{X509, X509Data};
use opcua_types::EndpointDescription;
use rsa::pkcs8::der::pem::PemLabel as _;
use rsa::pkcs8::{LineEnding, PrivateKeyInfo};
use sha2::{Digest as _, Sha256};

/// In our certificate, and in what we say of ourselves: servers compare the two.
pub const APPLICATION_URI: &str = "urn:plantlink:collector";

/// A server trusts this very certificate: another would have to be trusted anew, by a person who goes there.
const DAYS: u32 = 20 * 365;
const KEY_BITS: u32 = 2048;

/// What is kept for connections, below the collector's state.
pub struct Identity(PathBuf);

/// How long somebody else may take to make our key.
const MADE_WITHIN: Duration = Duration::from_secs(60);

impl Identity {
    pub fn of(root: &InstallRoot) -> Self {
        Self(root.collector_state().join("opcua"))
    }

    /// For the library's own files about a server, which a power cut may leave half written: begun anew each time, as
    /// nothing in them is relied on.
    pub fn folder_for(&self, source: &OpcuaSource) -> Result<PathBuf, String> {
        let folder = self.0.join(format!("library-{}", source.name));
        durable::remove_tree(&folder).map_err(|error| error.to_string())?;
        Ok(folder)
    }

    pub fn certificate(&self) -> PathBuf {
        self.0.join("own.der")
    }

    pub fn key(&self) -> PathBuf {
        self.0.join("own.pem")
    }

    /// Makes our key and certificate if there are none; a second's work.
    pub fn ensure_own(&self) -> Result<(), String> {
        let named = |what: &dyn std::fmt::Display| format!("{}: {what}", self.0.display());
        std::fs::create_dir_all(&self.0).map_err(|error| named(&error))?;
        // Of two sources, or a collector and a look at once beside it, one makes it, and the others find it.
        let deadline = Instant::now() + MADE_WITHIN;
        let _turn = loop {
            match durable::Lock::take(&self.0.join("lock")) {
                Ok(lock) => break lock,
                Err(durable::LockError::Held(_)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(durable::LockError::Held(_)) => return Err(named(&"somebody else is making our key for long")),
                Err(durable::LockError::File(error)) => return Err(named(&error)),
            }
        };
        // The certificate is written last: with it, all of this is there.
        if self.certificate().exists() {
            return Ok(());
        }
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
        if !is_one_certificate(shown) {
            return Err("the server shows more, or less, than one certificate; have it show its own alone".to_owned());
        }
        let what = match &source.server_certificate {
            Some(file) => {
                let trusted = read_certificates(&root.resolve(file))?;
                if trusted.first().is_some_and(|trusted| trusted.as_ref() == shown) {
                    return Ok(());
                }
                format!("the server does not show the certificate {}", file.display())
            }
            None => "no server_certificate says which server is the right one".to_owned(),
        };
        let offered = self.0.join(format!("offered-{}.der", source.name));
        if std::fs::read(&offered).is_ok_and(|there| there == shown) {
            // Shown before; it is not written again with every try.
        } else {
            durable::replace(&offered, shown, Access::Shared).map_err(|error| error.to_string())?;
        }
        let digest: String = Sha256::digest(shown).iter().map(|byte| format!("{byte:02x}")).collect();
        Err(format!(
            "{what}; what it shows is now in {} (SHA-256 {digest}): if that is the device's, copy it to config/ and name \
             it as server_certificate",
            offered.display()
        ))
    }
}

/// A DER sequence, and nothing behind it.
fn is_one_certificate(der: &[u8]) -> bool {
    const LENGTH_IN_TWO_BYTES: [u8; 2] = [0x30, 0x82];
    match der.split_first_chunk::<4>() {
        Some(([sequence, form, high, low], rest)) if [*sequence, *form] == LENGTH_IN_TWO_BYTES => {
            rest.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}
