//! What `publish` writes, and who else can read it.

use std::fs::{self, File};
use std::path::Path;
#[cfg(unix)]
use std::process::Command;

use protocol::Timestamp;
use semver::Version;
use updater::package::{Contents, FORMAT, Kind, Limits, Manifest, PRODUCT, pack, verify};

use crate::{KEYS, situation, trust};

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        kind: Kind::Program,
        product: PRODUCT.to_owned(),
        version: Version::new(1, 2, 0),
        platform: "any".to_owned(),
        created: Timestamp::parse("2026-05-01T10:20:31.123456Z").unwrap(),
        files: Vec::new(),
        migrations: Vec::new(),
        notes: "Що нового".to_owned(),
        remove: vec!["assets/old.txt".to_owned()],
        expires: None,
        min_version: None,
        base: None,
        result_tree: None,
        complete: false,
        keys_version: None,
        keys: None,
    }
}

fn contents(folder: &Path) -> Contents {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("a"), "x".repeat(300_000)).unwrap();
    fs::write(folder.join("b.sql"), "SELECT 1").unwrap();
    Contents {
        files: vec![("зразок/a b.txt".into(), folder.join("a"), false), ("agent".into(), folder.join("a"), true)],
        migrations: vec![("0002_b.sql".into(), folder.join("b.sql"))],
    }
}

#[test]
fn the_same_inputs_give_the_same_package_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str| {
        // Elsewhere, in another order, at another time.
        let mut contents = contents(&folder.path().join(name));
        contents.files.reverse();
        let out = folder.path().join(format!("{name}.zip"));
        pack(manifest(), &contents, &KEYS[..1], &out, |_| {}).unwrap();
        fs::read(out).unwrap()
    };
    let one = written("one");
    assert_eq!(one, written("two"));
    let package =
        verify(File::open(folder.path().join("one.zip")).unwrap(), &trust(), &Limits::DEFAULT, Some(&situation()));
    let package = package.unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(package.manifest().notes, "Що нового");
    assert_eq!(package.manifest().files.iter().map(|file| file.executable).collect::<Vec<_>>(), [true, false]);
    assert!(!folder.path().join("one.zip.part").exists());
}

#[test]
fn what_no_plant_would_take_is_not_packed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.zip");
    for name in ["../evil", "assets/config.txt", "CON"] {
        let mut contents = contents(folder.path());
        contents.files.push((name.to_owned(), folder.path().join("a"), false));
        assert!(pack(manifest(), &contents, &KEYS[..1], &out, |_| {}).is_err(), "{name}");
    }
    let mut orphan = contents(folder.path());
    orphan.migrations[0].0 = "0002_b.down.sql".to_owned();
    assert!(pack(manifest(), &orphan, &KEYS[..1], &out, |_| {}).is_err());
    assert!(!out.exists() && !folder.path().join("out.zip.part").exists());
}

/// The other direction of every format: somebody else's tools, which Windows has not.
#[cfg(unix)]
#[test]
fn openssl_verifies_our_signature_and_we_verify_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]);
        command.args(arguments).output().unwrap()
    };
    let message = b"{\"version\":\"1.2.0\"}";
    fs::write(path("message"), message).unwrap();
    fs::write(path("private.pem"), KEYS[0].to_pem(None)).unwrap();
    fs::write(path("public.pem"), KEYS[0].public_key().to_pem()).unwrap();
    for signature in [KEYS[0].sign(message), KEYS[0].sign_reproducibly(message)] {
        fs::write(path("sig"), signature).unwrap();
        let verified = openssl(&["-verify", &path("public.pem"), "-signature", &path("sig"), &path("message")]);
        assert!(verified.status.success(), "{verified:?}");
    }
    let signed = openssl(&["-sign", &path("private.pem"), "-out", &path("theirs"), &path("message")]);
    assert!(signed.status.success(), "{signed:?}");
    assert!(KEYS[0].public_key().verifies(message, &fs::read(path("theirs")).unwrap()));
}
