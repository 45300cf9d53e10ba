use protocol::Timestamp;
use protocol::control::{Changes, PendingState, PendingUpdate, PlantStatus, ProgressStep};

use super::all_running;

/// A package for 1.2.0 that waits.
pub fn package(version: &str, manifest_sha256: &str) -> PendingUpdate {
    PendingUpdate {
        version: version.into(),
        notes: "Alarm at 80 °C.\n  Faster trends.".into(),
        package: format!("update_v{version}.zip"),
        manifest_sha256: manifest_sha256.into(),
        package_bytes: 18_345_678,
        created: Timestamp::parse("2026-02-22T08:00:00Z").unwrap(),
        received_at: Timestamp::parse("2026-02-22T09:59:12Z").unwrap(),
        expires: None,
        signers: vec!["3f9a62c0d1e24b7788aa90ff12cd34ef".into()],
        bound: true,
        changes: Changes { added: vec!["assets/alarms.json".into()], changed: vec!["portal".into()], removed: vec![] },
        migrations: vec!["0012_add_alarms".into()],
        keys: None,
        state: PendingState::Waiting,
        error: None,
        outdated: false,
    }
}

pub fn with_package(version: &str, manifest_sha256: &str) -> PlantStatus {
    let mut status = all_running();
    status.update.pending = Some(package(version, manifest_sha256));
    status
}

pub fn step(step: &str, pct: u8) -> ProgressStep {
    ProgressStep { step: step.into(), pct, msg: format!("{step} says") }
}
