//! Which ports the children had: where the configuration says that any will do, a restart keeps them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use config::InstallRoot;
use durable::Access;

/// `state/ports.json`, by child. A wish, not a promise.
pub struct Ports {
    file: PathBuf,
    ports: Mutex<BTreeMap<String, u16>>,
}

impl Ports {
    pub fn read(root: &InstallRoot) -> Self {
        let file = root.state().join("ports.json");
        let bytes = std::fs::read(&file).ok();
        let ports = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { file, ports: Mutex::new(ports) }
    }

    pub fn last(&self, child: &str) -> Option<u16> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).get(child).copied()
    }

    /// A child listens at this address now.
    pub fn note(&self, child: &str, url: &str) {
        let Some(port) = url.rsplit(':').next().and_then(|port| port.parse().ok()) else { return };
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if ports.insert(child.to_owned(), port) == Some(port) {
            return;
        }
        let json = serde_json::to_vec(&*ports).expect("names and numbers serialise");
        if let Err(error) = durable::replace(&self.file, &json, Access::Shared) {
            tracing::warn!(%error, "ports cannot be remembered");
        }
    }
}
