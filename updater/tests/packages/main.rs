//! Packages: what is written is read back, and every lie is refused under its own name.

#![allow(clippy::unwrap_used, reason = "tests")]

#[cfg(target_os = "linux")]
mod bombs;
mod clocks;
mod hostile;
mod keys;
mod roundtrip;
mod zip_by_hand;

use std::io::{Seek as _, Write as _};
use std::sync::LazyLock;

use protocol::Timestamp;
use protocol::signing::{PrivateKey, hex};
use semver::Version;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use updater::package::{Code, Dialect, Limits, Refusal, Situation, Trust, VerifiedPackage, verify};
use updater::trusted_time::TrustedTime;

use zip_by_hand::{Archive, Entry};

/// Made once; keys take long.
static KEYS: LazyLock<[PrivateKey; 3]> = LazyLock::new(|| [(); 3].map(|()| PrivateKey::generate(2048).unwrap()));

fn trust() -> Trust {
    Trust { keys: vec![KEYS[0].public_key()], required: 1 }
}

/// A plant that runs 1.0.0, once ran 1.1.0, and keeps readings in SQLite.
fn situation() -> Situation {
    Situation {
        running: Version::new(1, 0, 0),
        running_id: "1.0.0-aaaaaaaa".to_owned(),
        floor: Version::new(1, 1, 0),
        waiting: None,
        platform: "linux-x86_64".to_owned(),
        time: TrustedTime { clock: Timestamp::parse("2026-06-01T00:00:00Z").unwrap(), floor: None },
        allow_unbound: true,
        dialect: Dialect::Sqlite,
        keys_version: 1,
        session_keys: Vec::new(),
    }
}

/// A package of one file and one migration, ready to be spoiled.
struct Draft {
    manifest: Value,
    archive: Archive,
    key: usize,
}

impl Draft {
    fn new() -> Self {
        let mut draft = Self {
            manifest: json!({
                "format": 1, "kind": "program", "product": "plantlink", "version": "1.2.0", "platform": "any",
                "created": "2026-05-01T00:00:00Z", "files": [], "migrations": [], "notes": "new",
            }),
            archive: Archive::default(),
            key: 0,
        };
        draft.add_file("assets/a.txt", b"hello");
        draft.add_migration("0002_add.sql", "CREATE TABLE a (x integer)");
        draft
    }

    fn add_file(&mut self, path: &str, content: &[u8]) -> &mut Entry {
        let listed = json!({
            "path": path, "sha256": hex(&Sha256::digest(content)), "size": content.len(), "executable": false,
        });
        self.manifest["files"].as_array_mut().unwrap().push(listed);
        self.archive.entries.push(Entry::new(&format!("files/{path}"), content));
        self.archive.entries.last_mut().unwrap()
    }

    fn add_migration(&mut self, name: &str, text: &str) {
        let listed = json!({ "name": name, "sha256": hex(&Sha256::digest(text.as_bytes())) });
        self.manifest["migrations"].as_array_mut().unwrap().push(listed);
        self.archive.entries.push(Entry::new(&format!("migrations/{name}"), text.as_bytes()));
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        self.archive.entries.iter_mut().find(|entry| entry.name == name.as_bytes()).unwrap()
    }

    /// Signed as it stands.
    fn bytes(&self) -> Vec<u8> {
        self.bytes_of(&serde_json::to_vec(&self.manifest).unwrap())
    }

    /// With a manifest that is not what `serde_json` would write.
    fn bytes_of(&self, manifest: &[u8]) -> Vec<u8> {
        let mut archive = self.archive.clone();
        archive.entries.insert(0, Entry::new("manifest.sig", &KEYS[self.key].sign(manifest)));
        archive.entries.insert(0, Entry::new("manifest.json", manifest));
        archive.bytes()
    }

    fn judge(&self) -> Result<VerifiedPackage, Refusal> {
        judge(&self.bytes(), &trust(), &situation())
    }

    fn assert_refused(&self, code: Code) {
        assert_refused(&self.bytes(), code);
    }
}

fn judge(bytes: &[u8], trust: &Trust, situation: &Situation) -> Result<VerifiedPackage, Refusal> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    verify(file, trust, &Limits::DEFAULT, Some(situation))
}

fn assert_refused(bytes: &[u8], code: Code) {
    match judge(bytes, &trust(), &situation()) {
        Ok(_) => panic!("taken instead of refused with {}", code.word()),
        Err(refusal) => assert_eq!(refusal.code, code, "{refusal}"),
    }
}

/// Changes a fresh draft, and expects this refusal.
fn refused(code: Code, spoil: impl FnOnce(&mut Draft)) {
    let mut draft = Draft::new();
    spoil(&mut draft);
    draft.assert_refused(code);
}
