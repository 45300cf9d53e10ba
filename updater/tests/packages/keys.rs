//! Who may sign, how many have to, and how that changes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use protocol::Timestamp;
use protocol::signing::PublicKey;
use semver::Version;
use updater::package::{
    Code, Contents, FORMAT, Kind, Limits, Manifest, NewKeys, PRODUCT, Refusal, Situation, Threshold, Trust,
    VerifiedPackage, add_signature, pack, verify, version_of_keys,
};

use crate::{Draft, KEYS, judge, situation};

fn public(numbers: &[usize]) -> Vec<PublicKey> {
    numbers.iter().map(|number| KEYS[*number].public_key()).collect()
}

fn pem(numbers: &[usize]) -> Vec<String> {
    public(numbers).iter().map(PublicKey::to_pem).collect()
}

/// A package of the keys `new`, signed with `signers` in that order.
fn rotation(folder: &Path, keys_version: u64, new: NewKeys, signers: &[usize]) -> PathBuf {
    let manifest = Manifest {
        format: FORMAT,
        kind: Kind::Keys,
        product: PRODUCT.to_owned(),
        version: version_of_keys(keys_version),
        platform: "any".to_owned(),
        created: Timestamp::parse("2026-05-01T00:00:00Z").unwrap(),
        files: Vec::new(),
        migrations: Vec::new(),
        notes: String::new(),
        remove: Vec::new(),
        expires: None,
        min_version: None,
        base: None,
        result_tree: None,
        complete: false,
        keys_version: Some(keys_version),
        keys: Some(new),
    };
    let out = folder.join(format!("keys-{keys_version}-{signers:?}.zip"));
    let first = &KEYS[signers[0]..=signers[0]];
    pack(manifest, &Contents::default(), first, &out, |_| {}).unwrap();
    for signer in &signers[1..] {
        add_signature(&out, &KEYS[*signer]).unwrap();
    }
    out
}

fn judged(package: &Path, trust: &Trust, situation: &Situation) -> Result<VerifiedPackage, Refusal> {
    verify(File::open(package).unwrap(), trust, &Limits::DEFAULT, Some(situation))
}

fn code(outcome: Result<VerifiedPackage, Refusal>) -> Option<Code> {
    outcome.err().map(|refusal| refusal.code)
}

#[test]
fn a_rotation_needs_enough_of_the_old_keys_and_enough_of_the_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let old = Trust { keys: public(&[0]), required: 1 };
    let to_both = || NewKeys::Threshold(Threshold { required: 2, keys: pem(&[1, 2]) });
    let of = |signers: &[usize]| judged(&rotation(folder.path(), 2, to_both(), signers), &old, &situation());
    assert_eq!(code(of(&[1, 2])), Some(Code::InvalidSignature), "none of the old keys");
    assert_eq!(code(of(&[0])), Some(Code::NotEnoughSignatures), "none of the new keys");
    assert_eq!(code(of(&[0, 1])), Some(Code::NotEnoughSignatures), "one of two new keys");
    let package = of(&[0, 1, 2]).unwrap_or_else(|refusal| panic!("{refusal}"));
    let new = package.new_trust().unwrap();
    assert_eq!((new.keys.clone(), new.required), (public(&[1, 2]), 2));
    // Its file is replaced below, which Windows refuses while it is open.
    drop(package);

    let two_needed = Trust { keys: public(&[0, 1]), required: 2 };
    let to_third = || NewKeys::Same(pem(&[1, 2]));
    let of = |signers: &[usize]| judged(&rotation(folder.path(), 2, to_third(), signers), &two_needed, &situation());
    assert_eq!(code(of(&[0, 2])), Some(Code::NotEnoughSignatures), "one of two old keys");
    assert_eq!(code(of(&[0, 1])), Some(Code::NotEnoughSignatures), "one of two new keys");
    assert_eq!(of(&[0, 1, 2]).unwrap_or_else(|refusal| panic!("{refusal}")).new_trust().unwrap().required, 2);
}

#[test]
fn keys_follow_one_another_without_a_gap_and_none_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let trust = Trust { keys: public(&[0]), required: 1 };
    let now = Situation { keys_version: 4, ..situation() };
    for (keys_version, expected) in
        [(3, Some(Code::KeysVersion)), (4, Some(Code::KeysVersion)), (5, None), (6, Some(Code::KeysVersion))]
    {
        let package = rotation(folder.path(), keys_version, NewKeys::Same(pem(&[0])), &[0]);
        assert_eq!(code(judged(&package, &trust, &now)), expected, "{keys_version}");
    }
}

#[test]
fn keys_that_cannot_be_trusted_are_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let trust = Trust { keys: public(&[0]), required: 1 };
    let session = Situation { session_keys: vec![KEYS[1].public_key().id().to_owned()], ..situation() };
    let package = rotation(folder.path(), 2, NewKeys::Same(pem(&[0, 1])), &[0]);
    assert_eq!(code(judged(&package, &trust, &session)), Some(Code::BadKeys), "a key that opens sessions");
    assert_eq!(code(judged(&package, &trust, &situation())), None);

    // 1024 bits, made by openssl; no writer of ours would take it.
    let small = "-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQD0wnRJIFax8QYrU59vbf1AyjsK\nCceGvHkQ+GV/ehxAQVTuPm91/ZzLXJVWLBEZB2b2t03LzCpRRB3mwP0Vt+ZQhIZC\nUI1WJ3/bJHP04+OHPfB8iPnCxNsXIozbkGzy5nTYlENnMucirF7BpwvUdTDTfRV5\nR3uC4RCkgXYPNzfKwwIDAQAB\n-----END PUBLIC KEY-----\n";
    for keys in [vec![small.to_owned()], pem(&[0, 0]), vec!["no key".to_owned()], vec![pem(&[0, 1]).concat()]] {
        let mut draft = keys_draft();
        draft.manifest["keys"] = serde_json::to_value(&keys).unwrap();
        assert_eq!(code(judge(&draft.bytes(), &trust, &situation())), Some(Code::BadKeys), "{keys:?}");
    }
    for required in [0, 2] {
        let mut draft = keys_draft();
        draft.manifest["keys"] = serde_json::json!({ "required": required, "keys": pem(&[0]) });
        assert_eq!(code(judge(&draft.bytes(), &trust, &situation())), Some(Code::BadKeys), "{required}");
    }
    let mut draft = keys_draft();
    draft.add_file("agent", b"a program in passing");
    assert_eq!(code(judge(&draft.bytes(), &trust, &situation())), Some(Code::BadManifest));
}

fn keys_draft() -> Draft {
    let mut draft = Draft::new();
    draft.archive.entries.clear();
    for list in ["files", "migrations"] {
        draft.manifest[list] = serde_json::json!([]);
    }
    draft.manifest["kind"] = "keys".into();
    draft.manifest["keys_version"] = 2.into();
    draft.manifest["version"] = "0.0.0-keys.2".into();
    draft
}

#[test]
fn signatures_are_counted_by_key_and_only_those_of_trusted_keys() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("update_v1.2.0.zip");
    let mut draft = Draft::new();
    draft.key = 0;
    fs::write(&package, draft.bytes()).unwrap();
    let two = Trust { keys: public(&[0, 1]), required: 2 };
    assert_eq!(code(judged(&package, &two, &situation())), Some(Code::NotEnoughSignatures));
    assert!(add_signature(&package, &KEYS[0]).is_err(), "the same key does not count twice");
    assert_eq!(add_signature(&package, &KEYS[2]).unwrap(), 2);
    assert_eq!(code(judged(&package, &two, &situation())), Some(Code::NotEnoughSignatures), "a stranger's");
    assert_eq!(add_signature(&package, &KEYS[1]).unwrap(), 3);
    let verified = judged(&package, &two, &situation()).unwrap_or_else(|refusal| panic!("{refusal}"));
    let mut expected: Vec<String> = public(&[0, 1]).iter().map(|key| key.id().to_owned()).collect();
    expected.sort();
    assert_eq!(verified.signers(), expected);
    drop(verified);
    // Signing again changes nothing but the file's place on the disk.
    let before = fs::read(&package).unwrap();
    assert_eq!(add_signature(&package, &KEYS[1]).unwrap(), 3);
    assert_eq!(fs::read(&package).unwrap(), before);
}

#[test]
fn below_the_running_version_only_a_lowered_floor_leads() {
    let stuck = Situation { running: Version::new(999_999, 0, 0), floor: Version::new(999_999, 0, 0), ..situation() };
    let trust = Trust { keys: public(&[0]), required: 1 };
    let bytes = Draft::new().bytes();
    assert_eq!(code(judge(&bytes, &trust, &stuck)), Some(Code::OlderVersion));
    let lowered = Situation { floor: Version::new(1, 2, 0), ..stuck.clone() };
    assert_eq!(code(judge(&bytes, &trust, &lowered)), None);
    let not_enough = Situation { floor: Version::new(1, 3, 0), ..stuck };
    assert_eq!(code(judge(&bytes, &trust, &not_enough)), Some(Code::OlderVersion));
}
