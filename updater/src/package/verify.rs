//! Is this package one that may be put on this plant PC? Judged in a fixed order, each refusal with its own code:
//!
//! 1. limits; 2. the archive's structure; 3. its names ([`Archive::open`]);
//! 4. the signature over the raw manifest, before any of it is parsed, by enough distinct keys;
//! 5. the manifest, strictly, and what it says against what runs here;
//! 6. every listed file is there with its size and hash, and nothing is there unlisted;
//! 7. none of the names that no package replaces (part of the manifest's own rules, so judged with 5 as well);
//! 8. with PostgreSQL, a way back for every migration.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::signing::{PrivateKey, PublicKey, hex};
use readings::migrate::Migration;
use semver::Version;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::archive::{Archive, UnpackError};
use super::limits::Limits;
use super::manifest::{Kind, Manifest, NewKeys, PRODUCT, Platform, names_keys};
use super::migrations::{self, Dialect, Texts};
use super::refusal::{Code, Refusal};
use super::{FILES, MANIFEST, MIGRATIONS, MORE_SIGNATURES, SIGNATURE};
use crate::trusted_time::TrustedTime;

/// Whose signatures count, and how many there have to be.
#[derive(Clone, Debug)]
pub struct Trust {
    pub keys: Vec<PublicKey>,
    pub required: usize,
}

/// What a package is judged against.
#[derive(Clone, Debug)]
pub struct Situation {
    pub running: Version,
    /// Name of the version directory that runs.
    pub running_id: String,
    /// The highest version ever committed here.
    pub floor: Version,
    /// The version that waits for the operator.
    pub waiting: Option<Version>,
    pub platform: String,
    pub time: TrustedTime,
    pub allow_unbound: bool,
    pub dialect: Dialect,
    /// Of the keys that are trusted; see [`crate::trusted_keys`].
    pub keys_version: u64,
    /// Ids of the keys that open sessions: none of them ever signs a package.
    pub session_keys: Vec<String>,
}

/// A package that has passed [`verify`], now or ([`reopen`]) before it was approved; nothing else makes one.
pub struct VerifiedPackage {
    archive: Archive,
    manifest: Manifest,
    manifest_sha256: String,
    signature: Vec<u8>,
    signers: Vec<String>,
    migrations: Texts,
    new_trust: Option<Trust>,
}

/// Judges a package; without a situation only what holds anywhere.
///
/// # Errors
/// The first rule that it breaks.
pub fn verify(
    file: File,
    trust: &Trust,
    limits: &Limits,
    situation: Option<&Situation>,
) -> Result<VerifiedPackage, Refusal> {
    let mut archive = Archive::open(file, limits)?;
    let raw = archive.read(MANIFEST, limits.manifest_bytes)?;
    let signature = archive.read(SIGNATURE, limits.signature_bytes)?;
    let (signatures, signers) = check_signatures(&mut archive, &raw, &signature, trust, limits)?;
    let manifest = Manifest::parse(&raw)?;
    if manifest.product != PRODUCT {
        return Err(Refusal::new(
            Code::WrongProduct,
            format!("the package is of {:?}, not of {PRODUCT}", manifest.product),
        ));
    }
    if !Platform::ALL.contains(&manifest.platform.as_str()) {
        return Err(Refusal::new(Code::WrongPlatform, format!("there is no platform {:?}", manifest.platform)));
    }
    if let Some(situation) = situation {
        judge(&manifest, situation)?;
    }
    let new_trust = new_trust(&manifest, trust, situation)?;
    if let (Some(new), Some(_)) = (&new_trust, situation) {
        // Whoever hands the trust over has the keys that he hands it over to.
        let signed_by_new = signed_by(&raw, &signatures, &new.keys);
        if signed_by_new.len() < new.required {
            let detail = format!("{} of the new keys have signed; {} are required", signed_by_new.len(), new.required);
            return Err(Refusal::new(Code::NotEnoughSignatures, detail));
        }
    }
    let migrations = check_contents(&mut archive, &manifest, limits)?;
    if situation.is_some_and(|situation| situation.dialect == Dialect::Postgres) {
        migrations::check_downs(manifest.migrations.iter().map(|migration| migration.name.as_str()))?;
    }
    let manifest_sha256 = hex(&Sha256::digest(&raw));
    Ok(VerifiedPackage { archive, manifest, manifest_sha256, signature, signers, migrations, new_trust })
}

/// Opens a package that was verified and approved before, and kept where only the watchdog writes: it has to be the very
/// same, whoever is trusted by now.
///
/// # Errors
/// If it is not.
pub fn reopen(file: File, manifest_sha256: &str, limits: &Limits) -> Result<VerifiedPackage, Refusal> {
    let mut archive = Archive::open(file, limits)?;
    let raw = archive.read(MANIFEST, limits.manifest_bytes)?;
    if hex(&Sha256::digest(&raw)) != manifest_sha256 {
        return Err(Refusal::new(Code::WrongHash, "it is not the package that was approved"));
    }
    let signature = archive.read(SIGNATURE, limits.signature_bytes)?;
    let manifest = Manifest::parse(&raw)?;
    let migrations = check_contents(&mut archive, &manifest, limits)?;
    let manifest_sha256 = manifest_sha256.to_owned();
    let (signers, new_trust) = (Vec::new(), None);
    Ok(VerifiedPackage { archive, manifest, manifest_sha256, signature, signers, migrations, new_trust })
}

/// What a package says of itself, to somebody who trusts no key yet: structure and contents are checked, the signature is
/// not.
pub struct Look {
    pub manifest: Manifest,
    pub manifest_sha256: String,
    pub(super) signed: SignedManifest,
}

/// Looks at a package without judging who signed it.
///
/// # Errors
/// The first rule that it breaks.
pub fn look(file: File, limits: &Limits) -> Result<Look, Refusal> {
    let mut archive = Archive::open(file, limits)?;
    let signed = SignedManifest::read(&mut archive, limits)?;
    let manifest = Manifest::parse(&signed.raw)?;
    check_contents(&mut archive, &manifest, limits)?;
    Ok(Look { manifest, manifest_sha256: hex(&Sha256::digest(&signed.raw)), signed })
}

/// The manifest with all signatures over it, none of them judged.
pub struct SignedManifest {
    pub(super) raw: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) further: Vec<FurtherSignature>,
}

/// One of `manifest.sigs.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FurtherSignature {
    pub key_id: String,
    /// Base64.
    pub signature: String,
}

impl SignedManifest {
    /// Reads no more of the package than these.
    ///
    /// # Errors
    /// An archive that breaks a rule, or whose signatures cannot be read.
    pub fn of(file: File, limits: &Limits) -> Result<Self, Refusal> {
        Self::read(&mut Archive::open(file, limits)?, limits)
    }

    fn read(archive: &mut Archive, limits: &Limits) -> Result<Self, Refusal> {
        let raw = archive.read(MANIFEST, limits.manifest_bytes)?;
        let signature = archive.read(SIGNATURE, limits.signature_bytes)?;
        Ok(Self { raw, signature, further: FurtherSignature::read(archive, limits)? })
    }

    /// Every signature: the id of the key that made it, if it is one of `keys`; else what it claims, if anything.
    pub fn signers(&self, keys: &[PublicKey]) -> Vec<Result<String, Option<String>>> {
        let first = [(None, self.signature.clone())].into_iter();
        let further = self
            .further
            .iter()
            .map(|further| (Some(further.key_id.clone()), STANDARD.decode(&further.signature).unwrap_or_default()));
        let judged = first.chain(further).map(|(claimed, signature)| {
            let key = keys.iter().find(|key| key.verifies(&self.raw, &signature));
            key.map(|key| key.id().to_owned()).ok_or(claimed)
        });
        judged.collect()
    }
}

impl FurtherSignature {
    pub fn of(key: &PrivateKey, raw: &[u8]) -> Self {
        let key_id = key.public_key().id().to_owned();
        Self { key_id, signature: STANDARD.encode(key.sign_reproducibly(raw)) }
    }

    fn read(archive: &mut Archive, limits: &Limits) -> Result<Vec<Self>, Refusal> {
        if !archive.entries().iter().any(|entry| entry.name == MORE_SIGNATURES) {
            return Ok(Vec::new());
        }
        let json = archive.read(MORE_SIGNATURES, limits.signature_bytes)?;
        serde_json::from_slice(&json).map_err(|error| bad_signatures(&error))
    }
}

fn bad_signatures(what: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::BadManifest, format!("{MORE_SIGNATURES}: {what}"))
}

/// Raw signatures, and whose each claims to be: `manifest.sig` names nobody.
type Signatures = Vec<(Option<String>, Vec<u8>)>;

/// All signatures, and the ids of the trusted keys among those that made them. In which order they were made says nothing.
fn check_signatures(
    archive: &mut Archive,
    raw: &[u8],
    signature: &[u8],
    trust: &Trust,
    limits: &Limits,
) -> Result<(Signatures, Vec<String>), Refusal> {
    let nobody = || Refusal::new(Code::InvalidSignature, "no trusted key has signed this package");
    let first_is_good = trust.keys.iter().any(|key| key.verifies(raw, signature));
    let further = read_signatures(archive, limits);
    // What is wrong with the others is not said to somebody whom nobody knows.
    let mut signatures = further.map_err(|refusal| if first_is_good { refusal } else { nobody() })?;
    signatures.push((None, signature.to_vec()));
    let signers = signed_by(raw, &signatures, &trust.keys);
    if signers.is_empty() {
        return Err(nobody());
    }
    if signers.len() < trust.required {
        let detail =
            format!("{} trusted keys have signed this package; {} are required", signers.len(), trust.required);
        return Err(Refusal::new(Code::NotEnoughSignatures, detail));
    }
    Ok((signatures, signers.into_iter().collect()))
}

fn read_signatures(archive: &mut Archive, limits: &Limits) -> Result<Signatures, Refusal> {
    let further = FurtherSignature::read(archive, limits)?.into_iter();
    let decoded = further.map(|FurtherSignature { key_id, signature }| {
        Ok((Some(key_id), STANDARD.decode(signature).map_err(|error| bad_signatures(&error))?))
    });
    decoded.collect()
}

/// Ids of those of `keys` that have signed.
fn signed_by(raw: &[u8], signatures: &Signatures, keys: &[PublicKey]) -> BTreeSet<String> {
    let has_signed = |key: &&PublicKey| {
        let claimed = signatures.iter().filter(|(id, _)| id.as_deref().is_none_or(|id| id == key.id()));
        claimed.into_iter().any(|(_, signature)| key.verifies(raw, signature))
    };
    keys.iter().filter(has_signed).map(|key| key.id().to_owned()).collect()
}

/// Whom a package of keys would have trusted from then on.
fn new_trust(manifest: &Manifest, old: &Trust, situation: Option<&Situation>) -> Result<Option<Trust>, Refusal> {
    let bad = |what: &dyn std::fmt::Display| Refusal::new(Code::BadKeys, format!("manifest.json: keys: {what}"));
    let Some(new) = &manifest.keys else { return Ok(None) };
    let mut keys: Vec<PublicKey> = Vec::new();
    for pem in new.pem() {
        let mut parsed = PublicKey::parse_all(pem, "one of them").map_err(|error| bad(&error))?;
        let (Some(key), true) = (parsed.pop(), parsed.is_empty()) else {
            return Err(bad(&"there are two in one text"));
        };
        if keys.iter().any(|other| other.id() == key.id()) {
            return Err(bad(&format!("{} is there twice", key.id())));
        }
        if situation.is_some_and(|situation| situation.session_keys.iter().any(|id| id == key.id())) {
            return Err(bad(&format!("{} opens sessions, and signs no packages", key.id())));
        }
        keys.push(key);
    }
    let required = match (new, situation) {
        (NewKeys::Threshold(threshold), _) => threshold.required,
        (NewKeys::Same(_), Some(_)) => old.required,
        // How many were required before is for a plant to say.
        (NewKeys::Same(_), None) => 1,
    };
    match (1..=keys.len()).contains(&required) {
        true => Ok(Some(Trust { keys, required })),
        false => Err(bad(&format!("{required} signatures of {} keys cannot be required", keys.len()))),
    }
}

/// What the manifest says against what runs here.
fn judge(manifest: &Manifest, situation: &Situation) -> Result<(), Refusal> {
    let refuse = |code, detail: String| Err(Refusal::new(code, detail));
    let version = &manifest.version;
    if manifest.platform != Platform::ANY && manifest.platform != situation.platform {
        return refuse(
            Code::WrongPlatform,
            format!("the package is for {}, this is {}", manifest.platform, situation.platform),
        );
    }
    if let (Kind::Keys, Some(number)) = (manifest.kind, manifest.keys_version) {
        let next = situation.keys_version.saturating_add(1);
        if number != next {
            let here = situation.keys_version;
            let detail = format!("the keys are of version {number}; here are those of {here}, which {next} follows");
            return refuse(Code::KeysVersion, detail);
        }
        return judge_expiry(manifest, situation);
    }
    judge_version(version, situation)?;
    if let Some(least) = &manifest.min_version
        && situation.running.cmp_precedence(least).is_lt()
    {
        return refuse(
            Code::MinVersion,
            format!("{version} is only for {least} and later; {} runs here", situation.running),
        );
    }
    match &manifest.base {
        Some(bases) if !bases.contains(&situation.running_id) => {
            let detail = format!("{version} is made for {}; {} runs here", bases.join(", "), situation.running_id);
            return refuse(Code::WrongBase, detail);
        }
        None if !situation.allow_unbound && !manifest.complete => {
            return refuse(Code::Unbound, "the package does not say what it may be put on (UPDATE_UNBOUND)".to_owned());
        }
        _ => {}
    }
    judge_expiry(manifest, situation)
}

fn judge_expiry(manifest: &Manifest, situation: &Situation) -> Result<(), Refusal> {
    match manifest.expires {
        Some(expires) if expires <= situation.time.now() => {
            let detail = format!("the package has expired at {expires}; it is {}", situation.time);
            Err(Refusal::new(Code::Expired, detail))
        }
        _ => Ok(()),
    }
}

/// A version against what runs, the floor and what waits. Build metadata does not count, as semver says.
pub(super) fn judge_version(version: &Version, situation: &Situation) -> Result<(), Refusal> {
    let older = |than: &str, other: &Version| {
        Err(Refusal::new(Code::OlderVersion, format!("{version} is older than {than} {other}")))
    };
    if version.cmp_precedence(&situation.running).is_eq() {
        return Err(Refusal::new(Code::SameVersion, format!("{version} runs here already")));
    }
    // Below the running one the floor only is where a package of keys has lowered it: the way back from a version that
    // nothing could follow.
    let lowered = situation.floor.cmp_precedence(&situation.running).is_lt();
    if version.cmp_precedence(&situation.running).is_lt() && !lowered {
        return older("the running", &situation.running);
    }
    if version.cmp_precedence(&situation.floor).is_lt() {
        return older("what once ran here,", &situation.floor);
    }
    match &situation.waiting {
        Some(waiting) if version.cmp_precedence(waiting).is_lt() => older("the waiting", waiting),
        _ => Ok(()),
    }
}

impl Situation {
    /// What the header of a delivery can be judged by before its body is read.
    ///
    /// # Errors
    /// [`Code::SameVersion`] or [`Code::OlderVersion`].
    pub fn judge_version(&self, version: &Version) -> Result<(), Refusal> {
        if names_keys(version) { Ok(()) } else { judge_version(version, self) }
    }
}

/// Unpacks everything once, into nothing but hashes; migrations are kept.
fn check_contents(archive: &mut Archive, manifest: &Manifest, limits: &Limits) -> Result<Texts, Refusal> {
    migrations::check_names(manifest.migrations.iter().map(|migration| migration.name.as_str()))?;
    let mut listed: BTreeMap<String, (&str, Option<u64>)> = BTreeMap::new();
    for file in &manifest.files {
        listed.insert(format!("{FILES}{}", file.path), (&file.sha256, Some(file.size)));
    }
    for migration in &manifest.migrations {
        listed.insert(format!("{MIGRATIONS}{}", migration.name), (&migration.sha256, None));
    }
    let present: BTreeMap<String, u64> =
        archive.entries().iter().map(|entry| (entry.name.clone(), entry.bytes)).collect();
    for (name, (_, size)) in &listed {
        match (present.get(name), size) {
            (None, _) => return Err(Refusal::new(Code::MissingFile, format!("{name} is listed and missing"))),
            (Some(there), Some(size)) if there != size => {
                return Err(Refusal::new(Code::WrongSize, format!("{name} has {there} bytes instead of {size}")));
            }
            _ => {}
        }
    }
    if let Some(name) = present
        .keys()
        .find(|name| (name.starts_with(FILES) || name.starts_with(MIGRATIONS)) && !listed.contains_key(*name))
    {
        return Err(Refusal::new(Code::UnlistedFile, format!("{name} is there and not listed")));
    }
    let mut texts = Texts::new();
    let mut migrations_bytes = 0;
    for (name, (expected, _)) in &listed {
        let migration = name.strip_prefix(MIGRATIONS);
        let mut text = Vec::new();
        if migration.is_some() {
            migrations_bytes += present[name];
            if migrations_bytes > limits.migrations_bytes {
                let detail = format!("the migrations have more than {} bytes", limits.migrations_bytes);
                return Err(Refusal::new(Code::BadMigration, detail));
            }
        }
        let mut hash = Sha256::new();
        archive
            .unpack(name, |bytes| {
                hash.update(bytes);
                if migration.is_some() {
                    text.extend_from_slice(bytes);
                }
                Ok(())
            })
            .map_err(UnpackError::into_refusal)?;
        if hex(&hash.finalize()) != **expected {
            return Err(Refusal::new(Code::WrongHash, format!("{name} is not what was signed")));
        }
        if let Some(migration) = migration {
            let text = String::from_utf8(text)
                .ok()
                .filter(|text| !text.contains('\0'))
                .ok_or_else(|| Refusal::new(Code::BadMigration, format!("migration {migration} is no UTF-8 text")))?;
            texts.insert(migration.to_owned(), text);
        }
    }
    Ok(texts)
}

impl VerifiedPackage {
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the operator approves: the SHA-256 of the raw manifest, hex.
    pub fn manifest_sha256(&self) -> &str {
        &self.manifest_sha256
    }

    /// `manifest.sig`, raw.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Ids of the trusted keys that signed it.
    pub fn signers(&self) -> &[String] {
        &self.signers
    }

    /// Of a package of keys: whom to trust from then on.
    pub fn new_trust(&self) -> Option<&Trust> {
        self.new_trust.as_ref()
    }

    pub fn migrations(&self, dialect: Dialect) -> Vec<Migration> {
        migrations::of(&self.migrations, dialect)
    }

    /// Unpacks one listed file again, and checks again what comes out: the package may have changed on disk since.
    ///
    /// # Errors
    /// [`UnpackError`]: refused, or what `each` said.
    pub(crate) fn unpack(
        &mut self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), UnpackError> {
        let listed = self.manifest.files.iter().find(|file| file.path == path);
        let listed = listed.ok_or_else(|| Refusal::new(Code::MissingFile, format!("{path} is not in the package")))?;
        let mut hash = Sha256::new();
        self.archive.unpack(&format!("{FILES}{path}"), |bytes| {
            hash.update(bytes);
            each(bytes)
        })?;
        match hex(&hash.finalize()) == listed.sha256 {
            true => Ok(()),
            false => Err(Refusal::new(Code::WrongHash, format!("{path} is not what was signed")).into()),
        }
    }
}
