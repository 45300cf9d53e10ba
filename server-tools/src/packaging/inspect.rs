//! `publish inspect`: what a package says, and who says it.

use std::fs::File;
use std::path::{Path, PathBuf};

use comfy_table::{Table, presets};
use protocol::Failure;
use protocol::signing::PublicKey;
use serde_json::json;
use updater::package::{Limits, Manifest, NewKeys, SignedManifest, Trust, look, verify};

/// Prints what a package holds, and every signature; with keys, only if one of them has signed it.
///
/// # Errors
/// A package that no plant would take, with exit code 76.
pub fn inspect(path: &Path, public_keys: &[PathBuf], as_json: bool) -> Result<(), Failure> {
    let open = || File::open(path).map_err(|error| durable::name_error("read", path, error));
    let refused = |refusal| Failure::integrity(format!("{}: {refusal}", path.display()));
    let mut keys = Vec::new();
    for file in public_keys {
        keys.extend(PublicKey::read_all(file)?);
    }
    let (manifest, manifest_sha256, signers) = match keys.is_empty() {
        true => {
            let package = look(open()?, &Limits::DEFAULT).map_err(refused)?;
            (package.manifest, package.manifest_sha256, None)
        }
        false => {
            let trust = Trust { keys: keys.clone(), required: 1 };
            let package = verify(open()?, &trust, &Limits::DEFAULT, None).map_err(refused)?;
            (package.manifest().clone(), package.manifest_sha256().to_owned(), Some(package.signers().to_vec()))
        }
    };
    let signatures = SignedManifest::of(open()?, &Limits::DEFAULT).map_err(refused)?.signers(&keys);
    if as_json {
        let manifest = serde_json::to_value(&manifest).expect("plain values serialise");
        let shown = json!({
            "manifest": manifest, "manifest_sha256": manifest_sha256, "signature_verified": signers.is_some(),
            "signers": signers, "signatures": signatures.len(),
        });
        println!("{shown}");
        return Ok(());
    }
    let signatures: Vec<String> = signatures.iter().map(said_of).collect();
    print(&manifest, &manifest_sha256, &signatures);
    Ok(())
}

fn said_of(signature: &Result<String, Option<String>>) -> String {
    match signature {
        Ok(id) => format!("{id}  good"),
        Err(Some(claimed)) => format!("{claimed}  not checked; give that key with --public-key"),
        Err(None) => "not checked; give its key with --public-key".to_owned(),
    }
}

fn print(manifest: &Manifest, manifest_sha256: &str, signatures: &[String]) {
    let mut facts = Table::new();
    facts.load_preset(presets::NOTHING);
    let mut fact = |name: &str, value: String| {
        facts.add_row([name.to_owned(), value]);
    };
    fact("version", manifest.version.to_string());
    if let (Some(keys), Some(version)) = (&manifest.keys, manifest.keys_version) {
        fact("keys", format!("version {version}"));
        fact("trusted", key_ids(keys.pem()));
        if let NewKeys::Threshold(threshold) = keys {
            fact("required", format!("{} signatures", threshold.required));
        }
        if let Some(floor) = &manifest.min_version {
            fact("takes again", format!("versions from {floor} on"));
        }
    }
    fact("platform", manifest.platform.clone());
    fact("created", manifest.created.to_string());
    fact("manifest", manifest_sha256.to_owned());
    fact("signed by", signatures.join("\n"));
    fact(
        "put on",
        match &manifest.base {
            Some(base) => base.join("\n"),
            None if manifest.keys.is_some() => "anything; it changes no program".to_owned(),
            None if manifest.complete => "anything; it is complete".to_owned(),
            None => "anything; it is unbound".to_owned(),
        },
    );
    if let Some(tree) = &manifest.result_tree {
        fact("comes out", tree.clone());
    }
    if let Some(version) = manifest.min_version.as_ref().filter(|_| manifest.keys.is_none()) {
        fact("from version", version.to_string());
    }
    if let Some(expires) = manifest.expires {
        fact("expires", expires.to_string());
    }
    fact("notes", manifest.notes.clone());
    println!("{facts}\n");
    if manifest.keys.is_some() {
        return;
    }
    let mut files = Table::new();
    files.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["", "path", "bytes", "sha256"]);
    for file in &manifest.files {
        let kind = if file.executable { "program" } else { "file" };
        files.add_row([kind, &file.path, &file.size.to_string(), &file.sha256[..16]]);
    }
    for path in &manifest.remove {
        files.add_row(["remove", path, "", ""]);
    }
    for migration in &manifest.migrations {
        files.add_row(["migration", &migration.name, "", &migration.sha256[..16]]);
    }
    println!("{files}");
}

fn key_ids(pem: &[String]) -> String {
    let ids = pem.iter().map(|pem| match PublicKey::parse_all(pem, "a key").as_deref() {
        Ok([key]) => key.id().to_owned(),
        _ => "not a key".to_owned(),
    });
    ids.collect::<Vec<_>>().join("\n")
}
