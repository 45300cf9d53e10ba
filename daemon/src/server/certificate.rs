//! A server's certificate: its own, self-signed as a rule. A renewed one is taken up without a restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use durable::{Stamp, stamp};
use protocol::{Failure, tls};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Certificate {
    certificate_file: PathBuf,
    key_file: PathBuf,
    /// `None` until there is a good pair; nobody gets in by TLS before.
    current: RwLock<Option<Current>>,
    seen: Mutex<Looked>,
}

/// What the files were like that are in use, and what was wrong with those that were found since.
#[derive(Debug)]
struct Looked {
    stamps: Stamps,
    error: Option<String>,
}

#[derive(Clone, Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    fingerprint: String,
}

type Stamps = [Stamp; 2];

impl Certificate {
    /// # Errors
    /// Missing, unreadable or unmatched files, in words that say what to do.
    pub fn load(certificate_file: &Path, key_file: &Path) -> Result<Arc<Self>, Failure> {
        // Before reading: what changes meanwhile is looked at again.
        let seen = Mutex::new(Looked { stamps: [stamp(certificate_file), stamp(key_file)], error: None });
        let current = read(certificate_file, key_file).map_err(Failure::configuration)?;
        tracing::info!(fingerprint = %current.fingerprint, "certificate loaded");
        Ok(Arc::new(Self {
            seen,
            certificate_file: certificate_file.to_owned(),
            key_file: key_file.to_owned(),
            current: RwLock::new(Some(current)),
        }))
    }

    /// As [`Self::load`]; where the files are no good yet, [`Self::watch`] takes them up when they are.
    pub fn load_or_wait(certificate_file: &Path, key_file: &Path) -> Arc<Self> {
        Self::load(certificate_file, key_file).unwrap_or_else(|failure| {
            tracing::error!(%failure, "nobody gets in by TLS until this is mended");
            Arc::new(Self {
                certificate_file: certificate_file.to_owned(),
                key_file: key_file.to_owned(),
                current: RwLock::new(None),
                seen: Mutex::new(Looked { stamps: [None; 2], error: Some(failure.message) }),
            })
        })
    }

    /// SHA-256 of the public key (SPKI), hex; empty while there is none.
    pub fn fingerprint(&self) -> String {
        self.current().map(|current| current.fingerprint).unwrap_or_default()
    }

    pub fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        Arc::new(config)
    }

    /// Looks for renewed files for as long as the process lives.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look();
        }
    }

    fn look(&self) {
        let stamps = [stamp(&self.certificate_file), stamp(&self.key_file)];
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.stamps == stamps {
            return;
        }
        match read(&self.certificate_file, &self.key_file) {
            Ok(new) => {
                tracing::info!(fingerprint = %new.fingerprint, "a renewed certificate is in use");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(new);
                *seen = Looked { stamps, error: None };
            }
            // One of the two files may be about to follow, or the right to read it: looked at again until it is good.
            Err(error) => {
                if seen.error.as_ref() != Some(&error) {
                    tracing::warn!(error, "a changed certificate is not usable; what was in use stays so");
                }
                seen.error = Some(error);
            }
        }
    }

    fn current(&self) -> Option<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current().map(|current| current.key)
    }
}

fn read(certificate_file: &Path, key_file: &Path) -> Result<Current, String> {
    let unusable = |path: &Path, error: &dyn std::fmt::Display| {
        format!(
            "{} cannot be used: {error}; a new pair is made with: openssl req -x509 -nodes -newkey rsa:2048 -days 9999 \
             -subj /CN=plantlink -keyout {} -out {}",
            path.display(),
            key_file.display(),
            certificate_file.display()
        )
    };
    let chain = CertificateDer::pem_file_iter(certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(certificate_file, &error))?;
    let first = chain.first().ok_or_else(|| unusable(certificate_file, &"it holds no certificate"))?;
    let fingerprint =
        tls::fingerprint(first).ok_or_else(|| unusable(certificate_file, &"it is no X.509 version 3 certificate"))?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| unusable(key_file, &error))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|error| unusable(key_file, &error))?;
    let key = CertifiedKey::new(chain, key);
    key.keys_match()
        .map_err(|_| unusable(key_file, &format!("it is not the key of {}", certificate_file.display())))?;
    Ok(Current { key: Arc::new(key), fingerprint })
}
