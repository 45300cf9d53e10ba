//! HQ: its keys, its archives, its pulls.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::programs::{Ended, Platform, program, run};

/// A folder with keys and archives.
#[derive(Clone, Debug)]
pub struct Headquarters {
    pub keys: PathBuf,
    pub data: PathBuf,
}

/// The plant's name at HQ.
pub const CLIENT: &str = "acme-1";

impl Headquarters {
    /// Makes keys in `keys` unless they are there, and keeps archives in `data`.
    ///
    /// # Panics
    /// If keygen fails.
    pub fn new(keys: &Path, data: &Path) -> Self {
        if !keys.join("license_public.pem").exists() {
            run(program("keygen").arg("--out").arg(keys)).good();
        }
        Self { keys: keys.to_owned(), data: data.to_owned() }
    }

    /// Writes a licence that is valid now.
    ///
    /// # Panics
    /// If publish fails.
    pub fn license(&self, out: &Path) {
        let mut command = program("publish");
        command.args(["license", "--client-id", CLIENT, "--from", "2020-01-01", "--to", "2099-12-31", "--key"]);
        run(command.arg(self.keys.join("license_private.pem")).arg("--out").arg(out)).good();
    }

    /// `sync_client` against a plant, not run yet.
    pub fn sync_client(&self, port: u16) -> Command {
        self.sync_client_on(Platform::Native, port)
    }

    /// The same on an administrator's machine of this kind.
    pub fn sync_client_on(&self, platform: Platform, port: u16) -> Command {
        let mut command = platform.program("sync_client");
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--client-id", CLIENT, "--json"]);
        command.arg("--key").arg(platform.path(&self.keys.join("private.pem")));
        command.arg("--data-dir").arg(platform.path(&self.data));
        command
    }

    /// One pull that has to go well; what it says of itself.
    ///
    /// # Panics
    /// If it does not.
    pub fn pull(&self, port: u16) -> Value {
        let said = run(&mut self.sync_client(port)).good();
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// Pulls and delivers a package in one session; what became of it is for the caller to judge.
    pub fn deliver(&self, port: u16, package: &Path) -> Ended {
        run(self.sync_client(port).arg("--update").arg(package))
    }

    /// Checks the stored archives against their records.
    pub fn verify(&self) -> Ended {
        run(program("sync_client").arg("verify").arg(self.folder()))
    }

    /// Where this plant's archives lie.
    pub fn folder(&self) -> PathBuf {
        self.data.join(CLIENT)
    }

    /// Stored archives, in the order of their periods.
    ///
    /// # Panics
    /// If the folder cannot be read.
    pub fn archives(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder()).into_iter().flatten();
        let mut archives: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        archives.retain(|path| path.extension().is_some_and(|ending| ending == "gz"));
        archives.sort();
        archives
    }
}
