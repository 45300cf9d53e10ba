//! `publish inspect`: what a package says, and who says it.

use std::fs::File;
use std::path::Path;

use comfy_table::{Table, presets};
use protocol::Failure;
use protocol::signing::PublicKey;
use serde_json::json;
use updater::package::{Limits, Manifest, NewKeys, Trust, look, verify};

/// Prints what a package holds; with a key, only if that key has signed it.
///
/// # Errors
/// A package that no plant would take, with exit code 76.
pub fn inspect(path: &Path, public_key: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let open = || File::open(path).map_err(|error| durable::name_error("read", path, error));
    let refused = |refusal| Failure::integrity(format!("{}: {refusal}", path.display()));
    let (manifest, manifest_sha256, signers) = match public_key {
        Some(key) => {
            let trust = Trust { keys: PublicKey::read_all(key)?, required: 1 };
            let package = verify(open()?, &trust, &Limits::DEFAULT, None).map_err(refused)?;
            (package.manifest().clone(), package.manifest_sha256().to_owned(), Some(package.signers().to_vec()))
        }
        None => {
            let package = look(open()?, &Limits::DEFAULT).map_err(refused)?;
            (package.manifest, package.manifest_sha256, None)
        }
    };
    if as_json {
        let verified = signers.is_some();
        let manifest = serde_json::to_value(&manifest).expect("plain values serialise");
        let shown = json!({
            "manifest": manifest, "manifest_sha256": manifest_sha256, "signature_verified": verified, "signers": signers,
        });
        println!("{shown}");
        return Ok(());
    }
    print(&manifest, &manifest_sha256, signers.as_deref());
    Ok(())
}

fn print(manifest: &Manifest, manifest_sha256: &str, signers: Option<&[String]>) {
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
    fact(
        "signed by",
        match signers {
            Some(signers) => signers.join("\n"),
            None => "not checked; give --public-key".to_owned(),
        },
    );
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
