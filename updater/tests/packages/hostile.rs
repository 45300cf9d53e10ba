//! Attacks, each correctly signed where it is not on the signature. A test is named after what it tries.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::json;
use updater::package::{Code, Dialect};

use crate::zip_by_hand::Entry;
use crate::{Draft, KEYS, assert_refused, judge, refused, situation, trust};

#[test]
fn an_honest_package_passes() {
    let package = Draft::new().judge().unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(package.manifest().version.to_string(), "1.2.0");
    assert_eq!(package.migrations(Dialect::Sqlite).len(), 1);
}

#[test]
fn two_manifests_of_which_a_lenient_reader_takes_the_last() {
    let mut draft = Draft::new();
    let evil = serde_json::to_vec(&json!({ "format": 1 })).unwrap();
    draft.archive.entries.push(Entry::new("manifest.json", &evil));
    assert_refused(&draft.bytes(), Code::DuplicateEntry);
}

#[test]
fn one_name_in_the_directory_and_another_before_the_data() {
    refused(Code::HeadersDisagree, |draft| {
        draft.entry("files/assets/a.txt").name = b"files/../../evil.sh".to_vec();
        draft.archive.entries[0].central_name = Some(b"files/assets/a.txt".to_vec());
    });
}

#[test]
fn a_unicode_path_that_gives_a_second_name() {
    let mut field = vec![0x75, 0x70, 9, 0, 1, 0, 0, 0, 0];
    field.extend_from_slice(b"evil");
    refused(Code::BadName, |draft| draft.entry("files/assets/a.txt").extra = field);
}

#[test]
fn sizes_that_differ_between_the_headers() {
    refused(Code::HeadersDisagree, |draft| draft.entry("files/assets/a.txt").central_bytes = Some(4));
}

#[test]
fn bytes_before_the_archive() {
    refused(Code::ForeignBytes, |draft| draft.archive.before = b"#!/bin/sh\nevil\n".to_vec());
}

#[test]
fn bytes_between_the_entries() {
    refused(Code::ForeignBytes, |draft| draft.entry("files/assets/a.txt").behind = b"hidden".to_vec());
}

#[test]
fn bytes_behind_the_archive() {
    refused(Code::ForeignBytes, |draft| draft.archive.behind = b"evil".to_vec());
    refused(Code::ForeignBytes, |draft| draft.archive.comment = b"a comment".to_vec());
}

#[test]
fn an_entry_that_the_directory_does_not_list() {
    refused(Code::ForeignBytes, |draft| {
        let mut hidden = Entry::new("files/hidden", b"evil");
        hidden.listed = false;
        draft.archive.entries.push(hidden);
    });
}

#[test]
fn an_entry_that_the_manifest_does_not_list() {
    refused(Code::UnlistedFile, |draft| draft.archive.entries.push(Entry::new("files/extra", b"evil")));
    refused(Code::UnlistedFile, |draft| draft.archive.entries.push(Entry::new("migrations/0003_x.sql", b"evil")));
    refused(Code::UnlistedFile, |draft| draft.archive.entries.push(Entry::new("install.sh", b"evil")));
}

#[test]
fn entries_that_overlap() {
    let mut draft = Draft::new();
    draft.add_file("assets/b.txt", b"hello");
    let mut bytes = draft.bytes();
    // The last file's directory record points to the first file, whose bytes both then claim.
    let at = |needle: &[u8], bytes: &[u8]| bytes.windows(needle.len()).rposition(|window| window == needle).unwrap();
    let (first, second) = (at(b"files/assets/a.txt", &bytes), at(b"files/assets/b.txt", &bytes));
    let offset: [u8; 4] = bytes[first - 4..first].try_into().unwrap();
    bytes[second - 4..second].copy_from_slice(&offset);
    assert_refused(&bytes, Code::OverlappingEntries);
}

#[test]
fn not_a_zip_at_all() {
    for bytes in [&b""[..], b"PK", b"PK\x05\x06", &[0; 100]] {
        assert_refused(bytes, Code::NotAZip);
    }
    let whole = Draft::new().bytes();
    for cut in [22, whole.len() / 2] {
        assert_refused(&whole[..whole.len() - cut], Code::NotAZip);
    }
}

#[test]
fn every_single_byte_changed_is_refused_or_changes_nothing() {
    let whole = Draft::new().bytes();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x41;
        if let Ok(package) = judge(&changed, &trust(), &situation()) {
            // What a zip says twice or for show: times, versions needed, attributes.
            assert_eq!(package.manifest().version.to_string(), "1.2.0");
            assert_eq!(package.migrations(Dialect::Sqlite)[0].up, "CREATE TABLE a (x integer)");
        }
    }
}

#[test]
fn more_entries_than_the_archive_admits() {
    refused(Code::NotAZip, |draft| draft.archive.claimed_entries = Some(1));
    refused(Code::TooManyEntries, |draft| draft.archive.claimed_entries = Some(20_001));
}

#[test]
fn a_bomb() {
    let zeros = vec![0; 4 << 20];
    let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&zeros).unwrap();
    let packed = packer.finish().unwrap();
    refused(Code::Bomb, |draft| {
        let entry = draft.add_file("assets/bomb", &zeros);
        (entry.packed, entry.method) = (Some(packed), 8);
    });
}

#[test]
fn a_bomb_that_claims_to_be_small() {
    let zeros = vec![0; 64 << 20];
    let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&zeros).unwrap();
    let packed = packer.finish().unwrap();
    refused(Code::WrongHash, |draft| {
        let entry = draft.add_file("assets/bomb", b"small");
        (entry.packed, entry.method) = (Some(packed), 8);
    });
}

#[test]
fn files_that_together_fill_the_disk() {
    refused(Code::UnpackedTooLarge, |draft| {
        for number in 0..3 {
            let entry = draft.add_file(&format!("assets/{number}"), b"x");
            // Packed enough of it not to be a bomb by its ratio.
            entry.claimed_bytes = Some(1 << 30);
            entry.packed = Some(vec![0; 6 << 20]);
            entry.method = 8;
        }
    });
}

#[test]
fn a_symlink_out_of_the_tree() {
    refused(Code::SpecialFile, |draft| draft.add_file("assets/link", b"/etc/passwd").mode = 0o120_777);
}

#[test]
fn a_folder_a_device_a_pipe() {
    for mode in [0o040_755, 0o060_644, 0o020_644, 0o010_644] {
        refused(Code::SpecialFile, |draft| draft.add_file("assets/odd", b"").mode = mode);
    }
    // As `zip -r` adds them.
    refused(Code::SpecialFile, |draft| {
        let mut folder = Entry::new("files/assets/", b"");
        folder.mode = 0o040_755;
        draft.archive.entries.push(folder);
    });
    refused(Code::BadName, |draft| draft.archive.entries.push(Entry::new("files/empty/", b"")));
}

#[test]
fn names_that_lead_out_of_the_tree() {
    for name in ["../evil", "/etc/cron.d/evil", "a/../../evil", "C:/evil", "..\\evil", "a:stream", "CON", "nul.txt"] {
        refused(Code::BadName, |draft| draft.archive.entries.push(Entry::new(&format!("files/{name}"), b"evil")));
        // In the manifest alone.
        refused(Code::BadName, |draft| draft.manifest["remove"] = json!([name]));
    }
    refused(Code::BadName, |draft| {
        draft.archive.entries.push(Entry { name: vec![0xff, 0xfe], ..Entry::new("x", b"") })
    });
}

#[test]
fn a_name_that_is_too_long() {
    refused(Code::NameTooLong, |draft| {
        draft.add_file(&"n".repeat(241), b"x");
    });
}

#[test]
fn names_that_are_one_on_some_platform() {
    for (one, other) in [("Readme", "README"), ("é", "e\u{301}"), ("a", "a/b")] {
        refused(Code::NameCollision, |draft| {
            draft.add_file(one, b"x");
            draft.add_file(other, b"y");
        });
    }
}

#[test]
fn the_plants_own_files() {
    for name in ["license.dat", "assets/config.txt", "agent/key.pem", "Credentials.ENV", "license/_core.pyd"] {
        refused(Code::ProtectedName, |draft| {
            draft.add_file(name, b"evil");
        });
    }
}

#[test]
fn so_many_folders_that_remembering_them_fills_the_memory() {
    let folders = "/a".repeat(13);
    refused(Code::TooManyEntries, |draft| {
        for number in 0..1_600 {
            draft.archive.entries.push(Entry::new(&format!("files/{number}{folders}"), b""));
        }
    });
    refused(Code::BadName, |draft| draft.archive.entries.push(Entry::new(&"a/".repeat(100), b"")));
}

#[test]
fn sizes_behind_the_data_that_lie() {
    let describe = |crc: u32, packed: u32| {
        let mut bytes = b"PK\x07\x08".to_vec();
        [crc, packed, 5].iter().for_each(|field| bytes.extend_from_slice(&field.to_le_bytes()));
        bytes
    };
    let spoil = |draft: &mut Draft, descriptor: Vec<u8>| {
        let entry = draft.entry("files/assets/a.txt");
        (entry.flags, entry.behind) = (1 << 3, descriptor);
    };
    refused(Code::HeadersDisagree, |draft| spoil(draft, describe(1, 5)));
    refused(Code::HeadersDisagree, |draft| spoil(draft, vec![0; 16]));
    refused(Code::ForeignBytes, |draft| spoil(draft, vec![0; 20]));
    let mut honest = Draft::new();
    spoil(&mut honest, describe(crc32fast::hash(b"hello"), 5));
    assert!(honest.judge().is_ok(), "{:?}", honest.judge().err());
}

#[test]
fn a_special_file_made_on_another_system() {
    for made_by in [0, 3, 19] {
        refused(Code::SpecialFile, |draft| {
            let entry = draft.add_file("assets/link", b"/etc/passwd");
            (entry.mode, entry.made_by) = (0o120_777, made_by);
        });
    }
}

#[test]
fn an_encrypted_entry() {
    refused(Code::Encrypted, |draft| draft.entry("files/assets/a.txt").flags = 1);
}

#[test]
fn a_compression_that_is_neither_stored_nor_deflate() {
    for method in [9, 12, 14, 93, 99] {
        refused(Code::Compression, |draft| draft.entry("files/assets/a.txt").method = method);
    }
}

#[test]
fn signed_by_somebody_else() {
    refused(Code::InvalidSignature, |draft| draft.key = 1);
}

#[test]
fn not_signed_at_all() {
    let mut draft = Draft::new();
    let manifest = serde_json::to_vec(&draft.manifest).unwrap();
    draft.archive.entries.insert(0, Entry::new("manifest.json", &manifest));
    assert_refused(&draft.archive.bytes(), Code::MissingPart);
    draft.archive.entries.insert(0, Entry::new("manifest.sig", b""));
    assert_refused(&draft.archive.bytes(), Code::InvalidSignature);
}

#[test]
fn one_key_that_signs_twice_where_two_are_required() {
    let mut both = trust();
    both.keys.push(KEYS[1].public_key());
    both.required = 2;
    let signed_by = |keys: &[usize]| {
        let mut draft = Draft::new();
        let raw = serde_json::to_vec(&draft.manifest).unwrap();
        let more: Vec<_> = keys
            .iter()
            .map(|key| {
                let signature = STANDARD.encode(KEYS[*key].sign(&raw));
                json!({ "key_id": KEYS[*key].public_key().id(), "signature": signature })
            })
            .collect();
        draft.archive.entries.push(Entry::new("manifest.sigs.json", &serde_json::to_vec(&more).unwrap()));
        judge(&draft.bytes(), &both, &situation())
    };
    assert_eq!(signed_by(&[0, 0]).err().unwrap().code, Code::NotEnoughSignatures);
    assert_eq!(signed_by(&[]).err().unwrap().code, Code::NotEnoughSignatures);
    assert_eq!(signed_by(&[1]).unwrap_or_else(|refusal| panic!("{refusal}")).signers().len(), 2);
}

#[test]
fn a_file_that_is_not_what_was_signed() {
    refused(Code::WrongHash, |draft| {
        draft.manifest["files"][0]["sha256"] = json!("0".repeat(64));
    });
    refused(Code::WrongSize, |draft| draft.manifest["files"][0]["size"] = json!(4));
    refused(Code::MissingFile, |draft| draft.archive.entries.retain(|entry| entry.name != b"files/assets/a.txt"));
    refused(Code::WrongHash, |draft| draft.manifest["migrations"][0]["sha256"] = json!("0".repeat(64)));
}

#[test]
fn a_manifest_that_two_readers_read_differently() {
    let draft = Draft::new();
    let text = serde_json::to_string(&draft.manifest).unwrap();
    for (what, manifest) in [
        ("a doubled key", text.replacen('{', "{\"version\":\"9.9.9\",", 1)),
        ("a doubled key in a file", text.replacen("{\"executable\"", "{\"size\":1,\"executable\"", 1)),
        ("an unknown key", text.replacen('{', "{\"run_as_root\":true,", 1)),
        ("something behind it", format!("{text}{{}}")),
        ("no object", format!("[{text}]")),
        ("a number as a text", text.replacen("\"size\":5", "\"size\":\"5\"", 1)),
        (
            "an array for an object",
            text.replacen("{\"executable\":false", "[{\"executable\":false", 1).replacen(
                "}],\"format\"",
                "}]],\"format\"",
                1,
            ),
        ),
        ("an object for a word", text.replacen("\"program\"", "{\"program\":null}", 1)),
        ("a missing key", text.replacen("\"notes\":\"new\",", "", 1)),
    ] {
        assert_ne!(manifest, text, "{what}");
        match judge(&draft.bytes_of(manifest.as_bytes()), &trust(), &situation()) {
            Ok(_) => panic!("{what} is taken"),
            Err(refusal) => assert_eq!(refusal.code, Code::BadManifest, "{what}: {refusal}"),
        }
    }
}

#[test]
fn another_format_product_platform_or_kind() {
    refused(Code::NewerFormat, |draft| {
        draft.manifest["format"] = json!(2);
        draft.manifest["of_the_future"] = json!(true);
    });
    refused(Code::BadManifest, |draft| draft.manifest["format"] = json!(0));
    refused(Code::WrongProduct, |draft| draft.manifest["product"] = json!("other"));
    refused(Code::WrongPlatform, |draft| draft.manifest["platform"] = json!("windows-x86_64"));
    refused(Code::WrongPlatform, |draft| draft.manifest["platform"] = json!("plan9"));
    refused(Code::BadManifest, |draft| draft.manifest["kind"] = json!("firmware"));
    refused(Code::BadManifest, |draft| draft.manifest["notes"] = json!("n".repeat(20_000)));
}

#[test]
fn versions_that_lead_back() {
    for (version, code) in [
        ("1.0.0", Code::SameVersion),
        ("1.0.0+build.7", Code::SameVersion),
        ("0.9.0", Code::OlderVersion),
        ("1.0.0-rc.1", Code::OlderVersion),
        ("1.0.5", Code::OlderVersion),
        ("1.1.0-rc.1", Code::OlderVersion),
        ("1.2", Code::BadManifest),
        ("v1.2.0", Code::BadManifest),
        ("1.2.0-../../x", Code::BadManifest),
        ("01.2.0", Code::BadManifest),
    ] {
        refused(code, |draft| draft.manifest["version"] = json!(version));
    }
    let mut floor = Draft::new();
    floor.manifest["version"] = json!("1.1.0");
    assert!(floor.judge().is_ok(), "the floor itself is not below the floor");
    let waiting = |version: &str| {
        let mut situation = situation();
        situation.waiting = Some(version.parse().unwrap());
        judge(&Draft::new().bytes(), &trust(), &situation).err().map(|refusal| refusal.code)
    };
    assert_eq!(waiting("1.3.0-rc.1"), Some(Code::OlderVersion));
    assert_eq!(waiting("1.2.0"), None);
    assert_eq!(waiting("1.2.0-rc.9"), None);
}

#[test]
fn packages_made_for_another_plant_or_another_time() {
    refused(Code::MinVersion, |draft| draft.manifest["min_version"] = json!("1.0.1"));
    refused(Code::WrongBase, |draft| draft.manifest["base"] = json!(["1.0.0-bbbbbbbb"]));
    refused(Code::Expired, |draft| draft.manifest["expires"] = json!("2026-05-31T00:00:00Z"));
    let mut bound = Draft::new();
    bound.manifest["base"] = json!(["0.9.0-cccccccc", "1.0.0-aaaaaaaa"]);
    bound.manifest["expires"] = json!("2026-07-01T00:00:00Z");
    assert!(bound.judge().is_ok());
    let mut strict = situation();
    strict.allow_unbound = false;
    assert_eq!(judge(&Draft::new().bytes(), &trust(), &strict).err().unwrap().code, Code::Unbound);
    assert!(judge(&bound.bytes(), &trust(), &strict).is_ok());
}

#[test]
fn migrations_without_a_way_back_where_one_is_needed() {
    let mut postgres = situation();
    postgres.dialect = Dialect::Postgres;
    assert_eq!(judge(&Draft::new().bytes(), &trust(), &postgres).err().unwrap().code, Code::NoDown);
    let mut draft = Draft::new();
    draft.add_migration("0002_add.down.sql", "DROP TABLE a");
    assert!(judge(&draft.bytes(), &trust(), &postgres).is_ok());
    refused(Code::BadMigration, |draft| draft.add_migration("evil.sh", "x"));
}

#[test]
fn keys_in_a_package_of_programs() {
    refused(Code::BadManifest, |draft| draft.manifest["keys"] = json!(["x"]));
    refused(Code::BadManifest, |draft| draft.manifest["kind"] = json!("keys"));
}
