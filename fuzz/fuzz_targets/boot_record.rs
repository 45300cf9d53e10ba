//! Any bytes as `state/boot`: as they are, or, as `generation JSON` in one line or two, in slots with right checksums.
//! Never a panic; what is read is read again once it is written, and recovery comes to an end with it.
#![no_main]

use fuzz::{file_of, path_of};
use libfuzzer_sys::fuzz_target;
use updater::boot_record::{BootRecord, BootRecordError, SLOT_BYTES};
use updater::recovery::{Action, Cause, decide};
use updater::transition::Step;

const MAGIC: &[u8; 8] = b"PLBOOT\0\x01";

fuzz_target!(|input: &[u8]| {
    let bytes = if input.starts_with(MAGIC) {
        input.to_vec()
    } else {
        input.split(|byte| *byte == b'\n').flat_map(slot).collect()
    };
    let file = file_of(&bytes);
    let path = path_of(&file);
    let Ok(record) = BootRecord::read(&path) else { return };
    record.running_database();
    let _ = record.running();
    match record.write(&path) {
        Ok(()) => assert_eq!(BootRecord::read(&path).ok().as_ref(), Some(&record)),
        // Numbers and escapes may be longer as we write them; then nothing is touched.
        Err(BootRecordError::TooLong) => assert_eq!(BootRecord::read(&path).ok().as_ref(), Some(&record)),
        Err(error) => panic!("{error}"),
    }
    assert!(file.metadata().is_ok_and(|metadata| metadata.len() <= bytes.len().max(2 * SLOT_BYTES) as u64));
    recover(record);
});

/// As a launcher would whose versions all fail.
fn recover(mut record: BootRecord) {
    for _ in 0..100 {
        let step = match decide(&record, &Cause::Start { boot: Some("boot".to_owned()) }) {
            Action::Run => return,
            Action::Take(step) | Action::TakeAndRun(step) => step,
            Action::FinishCommit | Action::FinishFallback => Step::Finish { unlogged: None },
        };
        // A phase without its attempt is no record that we write; it is refused.
        let Ok(next) = record.after(step) else { return };
        record = next;
    }
    panic!("recovery comes to no end");
}

/// Laid out as the module says.
fn slot(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let (generation, json) = text.split_once(' ').unwrap_or(("", &text));
    let json = &json.as_bytes()[..json.len().min(SLOT_BYTES - 24)];
    let mut slot = MAGIC.to_vec();
    slot.extend_from_slice(&generation.parse::<u64>().unwrap_or(1).to_le_bytes());
    slot.extend_from_slice(&(json.len() as u32).to_le_bytes());
    let checksum = crc32fast::hash(&[&slot[..], json].concat());
    slot.extend_from_slice(&checksum.to_le_bytes());
    slot.extend_from_slice(json);
    slot.resize(SLOT_BYTES, 0);
    slot
}
