//! Packages that would fill memory or disk. Each is judged in a process of its own, which tells how much it needed.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use protocol::signing::PublicKey;
use serde_json::json;
use updater::package::{Code, Limits, Trust, verify};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::zip_by_hand::Entry;
use crate::{Draft, KEYS, situation, trust};

/// Of everything that the process ever held, its own code included.
const MOST_MEMORY_BYTES: u64 = 64_000_000;
const FOLDER: &str = "PLANTLINK_TEST_BOMB";
/// Grows to three times its size when names are compared.
const GROWING: char = '\u{1d160}';

#[test]
fn one_file_of_zeros_packed_a_thousandfold() {
    let zeros = vec![0; 256 << 20];
    let mut draft = Draft::new();
    let entry = draft.add_file("assets/bomb", &zeros);
    (entry.packed, entry.method) = (Some(deflated(&zeros)), 8);
    assert_judged(&draft.bytes(), Some(Code::Bomb));
}

#[test]
fn one_file_of_zeros_that_claims_to_be_small() {
    let mut draft = Draft::new();
    let packed = deflated(&vec![0; 256 << 20]);
    let entry = draft.add_file("assets/bomb", b"small");
    (entry.packed, entry.method) = (Some(packed), 8);
    assert_judged(&draft.bytes(), Some(Code::WrongHash));
}

#[test]
fn a_bomb_in_a_bomb() {
    let inner = deflated(&vec![0; 512 << 20]);
    assert!(inner.len() < 1 << 20);
    // Small enough for no rule of ratios; what is inside stays inside.
    let mut draft = Draft::new();
    let packed = deflated(&inner);
    let entry = draft.add_file("assets/inner.gz", &inner);
    (entry.packed, entry.method) = (Some(packed), 8);
    assert_judged(&draft.bytes(), None);

    let many = inner.repeat(8);
    let packed = deflated(&many);
    let mut draft = Draft::new();
    let entry = draft.add_file("assets/inner.gz", &many);
    (entry.packed, entry.method) = (Some(packed), 8);
    assert_judged(&draft.bytes(), Some(Code::Bomb));
}

#[test]
fn more_than_two_gigabytes_in_files_too_small_for_a_ratio() {
    let zeros = vec![0; 1 << 20];
    let packed = deflated(&zeros);
    let mut draft = Draft::new();
    for number in 0..2049 {
        let entry = draft.add_file(&format!("assets/{number}"), b"");
        (entry.packed, entry.method, entry.claimed_bytes) = (Some(packed.clone()), 8, Some(1 << 20));
    }
    assert_judged(&draft.bytes(), Some(Code::UnpackedTooLarge));
}

#[test]
fn as_many_files_with_as_long_names_as_there_may_be() {
    let long_names = |count: usize| {
        let mut draft = Draft::new();
        // With the manifest, its signature and what is in the draft already.
        for number in 0..count - 4 {
            let padding = GROWING.to_string().repeat(56);
            draft.add_file(&format!("{number:05}{padding}/x"), b"x");
        }
        draft
    };
    let most = Limits::DEFAULT.entries;
    assert_judged(&long_names(most + 1).bytes(), Some(Code::TooManyEntries));
    // Everything is held and unpacked before the lie is found.
    let mut draft = long_names(most);
    draft.manifest["files"][most - 5]["sha256"] = json!("0".repeat(64));
    assert_judged(&draft.bytes(), Some(Code::WrongHash));
}

#[test]
fn a_directory_of_names_that_are_no_names() {
    let mut draft = Draft::new();
    for _ in 0..106 {
        // Each byte becomes three where it is shown.
        draft.archive.entries.push(Entry { name: vec![0xff; usize::from(u16::MAX)], ..Entry::new("", b"") });
    }
    assert_judged(&draft.bytes(), Some(Code::NameTooLong));
}

#[test]
fn a_directory_that_is_most_of_the_package() {
    let mut draft = Draft::new();
    for number in 0..1000 {
        draft.add_file(&format!("assets/{number}"), b"x").extra = [0xca, 0xfe, 0xfb, 0xff].repeat(15_000);
    }
    assert_judged(&draft.bytes(), Some(Code::NotAZip));
}

#[test]
fn a_manifest_that_is_small_on_disk_and_large_in_memory() {
    let most = Limits::DEFAULT.manifest_bytes as usize;
    let manifest = |key: &str, value: &str| {
        let text = serde_json::to_string(&Draft::new().manifest).unwrap();
        text.replacen('{', &format!("{{\"{key}\":{value},"), 1)
    };
    let filled = |piece: &str| format!("[{}]", vec![piece; (most - 1000) / (piece.len() + 1)].join(","));
    let file = r#"{"path":"","sha256":"","size":0,"executable":true}"#;
    for (what, manifest) in [
        ("texts", manifest("remove", &filled("\"\""))),
        ("bases", manifest("base", &filled("\"\""))),
        ("files", manifest("files", &filled(file))),
        ("numbers in place of files", manifest("files", &filled("0"))),
        ("what nobody asked for", manifest("more", &filled("{\"a\":0}"))),
        ("folders in folders", manifest("more", &"[".repeat(most - 1000))),
        ("a text that is longer when it is shown", manifest("format", &format!("\"{}\"", "\x7f".repeat(most - 1000)))),
        ("a key that is longer when it is shown", manifest(&"\x7f".repeat(most - 1000), "0")),
        ("a number", manifest("format", &"1".repeat(most - 1000))),
        ("too much", manifest("notes", &format!("\"{}\"", "n".repeat(most)))),
    ] {
        println!("{what}");
        assert_judged(&Draft::new().bytes_of(manifest.as_bytes()), Some(Code::BadManifest));
    }
}

#[test]
fn half_a_gigabyte_of_zeros_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = folder.path().join("bomb");
    let mut draft = Draft::new();
    draft.archive.entries.clear();
    draft.manifest["migrations"] = json!([]);
    draft.manifest["files"] =
        json!([{ "path": "a", "sha256": "0".repeat(64), "size": 500_u64 << 20, "executable": false }]);
    let manifest = serde_json::to_vec(&draft.manifest).unwrap();
    let mut zip = ZipWriter::new(Sparse(File::create(&bomb).unwrap()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in [("manifest.json", &manifest), ("manifest.sig", &KEYS[0].sign(&manifest))] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.start_file("files/a", stored).unwrap();
    for _ in 0..500 {
        zip.write_all(&[0; 1 << 20]).unwrap();
    }
    zip.finish().unwrap();
    assert_file_judged(folder.path(), Some(Code::WrongHash));
    // And a byte more than is taken.
    File::options().write(true).open(&bomb).unwrap().set_len(Limits::DEFAULT.package_bytes + 1).unwrap();
    assert_file_judged(folder.path(), Some(Code::TooLarge));
}

/// Leaves holes where there is nothing but zeros.
struct Sparse(File);

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes.len() > 1024 && bytes.iter().all(|byte| *byte == 0) {
            true => self.0.seek_relative(bytes.len() as i64).map(|()| bytes.len()),
            false => self.0.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

fn deflated(content: &[u8]) -> Vec<u8> {
    let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
    packer.write_all(content).unwrap();
    packer.finish().unwrap()
}

/// Refused with this code, or taken; with little memory, writing nothing, and an honest package is taken after it.
fn assert_judged(bomb: &[u8], expected: Option<Code>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bomb"), bomb).unwrap();
    assert_file_judged(folder.path(), expected);
}

fn assert_file_judged(folder: &Path, expected: Option<Code>) {
    fs::write(folder.join("honest"), Draft::new().bytes()).unwrap();
    fs::write(folder.join("key"), trust().keys[0].to_pem()).unwrap();
    let judged = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bombs::in_a_process_of_its_own", "--nocapture", "--ignored"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    assert!(judged.status.success(), "{judged:?}");
    let told = fs::read_to_string(folder.join("told")).unwrap();
    let told: Vec<&str> = told.split(' ').collect();
    let [verdict, memory, written, after] = told[..] else { panic!("{told:?}") };
    println!("{verdict}: {memory} bytes of memory");
    assert_eq!(verdict, expected.map_or("taken", Code::word));
    assert!(memory.parse::<u64>().unwrap() <= MOST_MEMORY_BYTES, "{verdict} takes {memory} bytes of memory");
    assert_eq!((written, after), ("0", "taken"));
}

#[test]
#[ignore = "what the others here start"]
fn in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let trust = Trust { keys: PublicKey::read_all(&folder.join("key")).unwrap(), required: 1 };
    let judge = |name: &str| {
        let judged = verify(File::open(folder.join(name)).unwrap(), &trust, &Limits::DEFAULT, Some(&situation()));
        judged.err().map_or("taken", |refusal| refusal.code.word())
    };
    let written_before = of_this_process("io", "wchar:");
    let verdict = judge("bomb");
    let written = of_this_process("io", "wchar:") - written_before;
    let memory = of_this_process("status", "VmHWM:") * 1024;
    let after = judge("honest");
    fs::write(folder.join("told"), format!("{verdict} {memory} {written} {after}")).unwrap();
}

/// A number that the kernel keeps of this process.
fn of_this_process(file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
