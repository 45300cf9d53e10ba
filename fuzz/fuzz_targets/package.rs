//! A package after a recipe, with right checksums, rightly hashed and signed on the fly unless the recipe lies: what
//! lies behind the signature. What is taken is what was signed, and may be put on the plant that it was judged for.
#![no_main]

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use fuzz::{file_of, situation};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use protocol::Timestamp;
use protocol::signing::{PrivateKey, hex};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use updater::package::{Dialect, Limits, Manifest, Trust, reopen, verify};
use zip_by_hand::{Archive, Entry};

#[path = "../../updater/tests/packages/zip_by_hand.rs"]
mod zip_by_hand;

/// The smallest that is accepted; made once, for it takes long.
static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(2048).expect("a key"));

#[derive(Arbitrary, Debug)]
struct Recipe<'a> {
    version: Version<'a>,
    min_version: Option<Version<'a>>,
    expires: Option<i64>,
    base: Option<Vec<&'a str>>,
    platform: Platform<'a>,
    complete: bool,
    remove: Vec<&'a str>,
    notes: &'a str,
    /// A key and a word that take the place of others, or stand beside them.
    more: Option<(&'a str, &'a str)>,
    parts: Vec<Part<'a>>,
    more_signatures: Option<&'a [u8]>,
    unsigned: bool,
    postgres: bool,
    /// Bytes of the whole package changed behind its maker's back.
    flips: Vec<(u16, u8)>,
}

#[derive(Arbitrary, Debug)]
struct Version<'a> {
    numbers: [u8; 3],
    pre: &'a str,
    build: &'a str,
}

#[derive(Arbitrary, Debug)]
enum Platform<'a> {
    Any,
    Linux,
    Other(&'a str),
}

#[derive(Arbitrary, Debug)]
struct Part<'a> {
    place: Place,
    name: &'a str,
    content: &'a [u8],
    lie: Lie<'a>,
}

#[derive(Arbitrary, Debug)]
enum Place {
    File,
    Migration,
    Elsewhere,
}

#[derive(Arbitrary, Debug)]
enum Lie<'a> {
    Honest,
    Unlisted,
    Missing,
    Hash,
    Size(u64),
    Packed(&'a [u8]),
    Method(u16),
    Flags(u16),
    Mode(u16),
    ClaimedBytes(u32),
    CentralBytes(u32),
    CentralName(&'a [u8]),
    Extra(&'a [u8]),
    Behind(&'a [u8]),
}

fuzz_target!(
    init: {
        LazyLock::force(&KEY);
    },
    |recipe: Recipe| judge(&recipe)
);

fn judge(recipe: &Recipe) {
    let raw = serde_json::to_vec(&recipe.manifest()).expect("plain values serialise");
    let mut bytes = recipe.archive(&raw).bytes();
    for (at, change) in &recipe.flips {
        let at = usize::from(*at) % bytes.len();
        bytes[at] ^= change;
    }
    let trust = Trust { keys: vec![KEY.public_key()], required: 1 };
    let dialect = if recipe.postgres { Dialect::Postgres } else { Dialect::Sqlite };
    let situation = situation(dialect);
    let Ok(package) = verify(file_of(&bytes), &trust, &Limits::DEFAULT, Some(&situation)) else { return };

    assert!(!recipe.unsigned);
    let manifest = package.manifest();
    assert_eq!(Manifest::parse(&raw).as_ref(), Ok(manifest), "it is not what was signed");
    assert!(manifest.version.cmp_precedence(&situation.running).is_gt());
    assert!(manifest.version.cmp_precedence(&situation.floor).is_ge());
    assert!(manifest.min_version.as_ref().is_none_or(|least| least.cmp_precedence(&situation.running).is_le()));
    assert!(manifest.base.as_ref().is_none_or(|bases| bases.contains(&situation.running_id)));
    assert!(manifest.expires.is_none_or(|expires| expires > situation.time.now()));
    for migration in package.migrations(dialect) {
        assert!(recipe.parts.iter().any(|part| part.content == migration.up.as_bytes()));
        assert!(migration.down.is_some() || !recipe.postgres);
    }
    let again = reopen(file_of(&bytes), package.manifest_sha256(), &Limits::DEFAULT);
    assert_eq!(again.ok().map(|again| again.manifest().clone()).as_ref(), Some(manifest));
}

impl Recipe<'_> {
    fn manifest(&self) -> Value {
        let listed = |part: &&Part| !matches!(part.lie, Lie::Unlisted);
        let files = self.parts.iter().filter(listed).filter(|part| matches!(part.place, Place::File)).map(|part| {
            let size = if let Lie::Size(size) = part.lie { size } else { part.content.len() as u64 };
            json!({ "path": part.name, "sha256": part.sha256(), "size": size, "executable": false })
        });
        let migrations = self.parts.iter().filter(listed).filter(|part| matches!(part.place, Place::Migration));
        let migrations = migrations.map(|part| json!({ "name": part.name, "sha256": part.sha256() }));
        let mut manifest = Map::new();
        let mut put = |key: &str, value: Value| manifest.insert(key.to_owned(), value);
        put("format", json!(1));
        put("kind", json!("program"));
        put("product", json!("plantlink"));
        put("version", json!(self.version.text()));
        put("platform", json!(self.platform.word()));
        put("created", json!("2026-05-01T00:00:00Z"));
        put("files", files.collect());
        put("migrations", migrations.collect());
        put("notes", json!(self.notes));
        if !self.remove.is_empty() {
            put("remove", json!(self.remove));
        }
        if self.complete {
            put("complete", json!(true));
        }
        if let Some(base) = &self.base {
            put("base", base.iter().map(|base| if base.is_empty() { "1.0.0-aaaaaaaa" } else { base }).collect());
        }
        if let Some(least) = &self.min_version {
            put("min_version", json!(least.text()));
        }
        if let Some(expires) = self.expires.and_then(Timestamp::from_micros) {
            put("expires", json!(expires));
        }
        if let Some((key, value)) = self.more {
            put(key, serde_json::from_str(value).unwrap_or_else(|_| json!(value)));
        }
        Value::Object(manifest)
    }

    fn archive(&self, raw: &[u8]) -> Archive {
        let signature = if self.unsigned { vec![7; 256] } else { signature(raw) };
        let mut archive = Archive::default();
        archive.entries.push(Entry::new("manifest.json", raw));
        archive.entries.push(Entry::new("manifest.sig", &signature));
        if let Some(more) = self.more_signatures {
            archive.entries.push(Entry::new("manifest.sigs.json", more));
        }
        archive.entries.extend(self.parts.iter().filter(|part| !matches!(part.lie, Lie::Missing)).map(Part::entry));
        archive
    }
}

/// A signature takes longer than all else, and most changes are not to the manifest. One that no plant can read is
/// not worth it.
fn signature(raw: &[u8]) -> Vec<u8> {
    static MADE: LazyLock<Mutex<HashMap<Vec<u8>, Vec<u8>>>> = LazyLock::new(Mutex::default);
    if Manifest::parse(raw).is_err() {
        return vec![7];
    }
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if made.len() > 10_000 {
        made.clear();
    }
    made.entry(raw.to_vec()).or_insert_with(|| KEY.sign(raw)).clone()
}

impl Part<'_> {
    fn sha256(&self) -> String {
        if matches!(self.lie, Lie::Hash) { "0".repeat(64) } else { hex(&Sha256::digest(self.content)) }
    }

    fn entry(&self) -> Entry {
        let folder = match self.place {
            Place::File => "files/",
            Place::Migration => "migrations/",
            Place::Elsewhere => "",
        };
        let mut entry = Entry::new(&format!("{folder}{}", self.name), self.content);
        match self.lie {
            Lie::Honest | Lie::Unlisted | Lie::Missing | Lie::Hash | Lie::Size(_) => {}
            Lie::Packed(packed) => (entry.packed, entry.method) = (Some(packed.to_vec()), 8),
            Lie::Method(method) => entry.method = method,
            Lie::Flags(flags) => entry.flags = flags,
            Lie::Mode(mode) => entry.mode = mode.into(),
            Lie::ClaimedBytes(bytes) => entry.claimed_bytes = Some(bytes),
            Lie::CentralBytes(bytes) => entry.central_bytes = Some(bytes),
            Lie::CentralName(name) => entry.central_name = Some(name.to_vec()),
            Lie::Extra(extra) => entry.extra = extra.to_vec(),
            Lie::Behind(behind) => entry.behind = behind.to_vec(),
        }
        entry
    }
}

impl Version<'_> {
    /// Mostly one that may be put on.
    fn text(&self) -> String {
        let [major, minor, patch] = self.numbers;
        let beside = |mark: char, text: &str| if text.is_empty() { String::new() } else { format!("{mark}{text}") };
        format!("{}.{}.{patch}{}{}", major % 4, minor % 4, beside('-', self.pre), beside('+', self.build))
    }
}

impl<'a> Platform<'a> {
    fn word(&self) -> &'a str {
        match self {
            Self::Any => "any",
            Self::Linux => "linux-x86_64",
            Self::Other(word) => word,
        }
    }
}
