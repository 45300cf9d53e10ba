//! What the operator sees of updates.

#![allow(clippy::unwrap_used)]

mod plant;

use config::Language;
use plant::package::{package, step, with_package};
use plant::{Plant, all_running};
use protocol::Timestamp;
use protocol::control::{Attempted, ChildState, PendingState, PlantStatus};

fn applying() -> PlantStatus {
    let mut status = with_package("1.3.0", "aa11");
    status.update.pending.as_mut().unwrap().state = PendingState::Applying;
    status.update.progress = vec![step("verify", 20), step("backup", 40), step("patch", 70)];
    status.phase = "preparing".into();
    status
}

fn attempted(status: &str, error: Option<&str>) -> Attempted {
    Attempted {
        restored: false,
        time: Timestamp::now(),
        from_version: "1.2.0".into(),
        to_version: "1.3.0".into(),
        status: status.into(),
        error: error.map(str::to_owned),
        attempt: 1,
        id: String::new(),
    }
}

fn failed(at: &str) -> PlantStatus {
    let mut status = with_package("1.3.0", "aa11");
    status.update.pending.as_mut().unwrap().state = PendingState::Failed;
    status.update.progress = vec![step("verify", 20), step(at, 50), step("failed", 0)];
    status.update.history = vec![attempted("failed", Some("<i>agent</i> was not ready"))];
    status
}

#[tokio::test]
async fn every_page_says_at_once_that_an_update_has_come_and_how_far_it_is() {
    let plant = Plant::running().await;
    for path in ["/", "/readings", "/update", "/nowhere"] {
        assert!(plant.get(path, "").await.contains("<div id=\"badge\" role=\"status\"></div>"), "{path}");
    }
    for view in ["overview", "readings", "update", "notfound"] {
        plant.becomes(all_running());
        let mut feed = plant.listen(&format!("/events?view={view}"), "").await;
        feed.until("\"badge\":\"\"").await;
        plant.becomes(with_package("1.3.0", "aa11"));
        feed.until("href=\\\"/update\\\">Update received v1.3.0</a>").await;
        plant.becomes(applying());
        feed.until("data-under-way>Updating… 70 %</a>").await;
    }
    for path in ["/", "/readings", "/update", "/nowhere"] {
        assert!(plant.get(path, "").await.contains("data-under-way>Updating… 70 %</a>"), "{path}");
    }
}

#[tokio::test]
async fn the_update_page_shows_what_the_operator_says_yes_to() {
    let plant = Plant::with(Some(with_package("1.3.0", "aa11")), Language::English).await;
    let page = plant.get("/update", "").await;
    for shown in [
        "An update to version 1.3.0 has been received.",
        "Alarm at 80 °C.\n  Faster trends.",
        "<code title=\"3f9a62c0d1e24b7788aa90ff12cd34ef\">3f9a62c0d1e2…</code>",
        "18.3\u{a0}MB",
        "2026-02-22 09:59 UTC",
        "Files added: 1",
        "assets/alarms.json",
        "Files removed: 0",
        "0012_add_alarms",
        "data-ask=\"/api/update/apply\" data-manifest=\"aa11\"",
        "data-ask=\"/api/update/later\" data-manifest=\"aa11\"",
        "inputmode=\"numeric\" autocomplete=\"off\"",
        "update.js",
    ] {
        assert!(page.contains(shown), "{shown} is missing: {page}");
    }
    assert!(!page.contains("does not say for which version"), "{page}");
    assert!(!page.contains(" style=") && !page.contains(" onclick="), "{page}");

    let mut unbound = all_running();
    unbound.update.pending = Some(protocol::control::PendingUpdate { bound: false, ..package("1.3.0", "aa11") });
    plant.becomes(unbound);
    let page = plant.get("/update", "").await;
    assert!(
        page.contains("does not say for which version it was made") && page.contains("fits version 1.2.0"),
        "{page}"
    );
}

#[tokio::test]
async fn a_change_of_keys_says_that_it_is_one() {
    let mut status = with_package("0.0.0-keys.2", "aa11");
    let pending = status.update.pending.as_mut().unwrap();
    pending.keys = Some(protocol::control::KeyChanges {
        version: 2,
        required: 2,
        required_before: 1,
        added: vec!["new-key".into()],
        kept: vec![],
        removed: vec!["old-key".into()],
        floor: Some("1.1.0".into()),
    });
    let plant = Plant::with(Some(status), Language::English).await;
    let page = plant.get("/update", "").await;
    for shown in [
        "changes whose signatures count",
        "Versions from 1.1.0 on will be taken again",
        "Keys added: 1",
        "new-key",
        "Keys removed: 1",
        "old-key",
        "Signatures required: 2 (until now 1)",
        "Headquarters wants to change its signing keys.",
        "Change of keys received",
        "data-ask=\"/api/update/apply\"",
    ] {
        assert!(page.contains(shown), "{shown} is missing: {page}");
    }
    assert!(!page.contains("Files added"), "{page}");
}

#[tokio::test]
async fn whatever_a_package_calls_itself_is_only_text() {
    const HOSTILE: &str = "</p><script>alert(1)</script>\" onfocus=\"alert(2)";
    let mut pending = package(HOSTILE, HOSTILE);
    pending.notes = HOSTILE.into();
    pending.signers = vec![HOSTILE.into()];
    pending.migrations = vec![HOSTILE.into()];
    for paths in [&mut pending.changes.added, &mut pending.changes.changed, &mut pending.changes.removed] {
        *paths = vec![HOSTILE.into()];
    }
    for state in [PendingState::Waiting, PendingState::Postponed, PendingState::Applying, PendingState::Failed] {
        let mut status = all_running();
        pending.state = state;
        pending.error = Some(HOSTILE.into());
        status.update.pending = Some(pending.clone());
        status.update.progress = vec![step(HOSTILE, 20)];
        status.update.history = vec![attempted("failed", Some(HOSTILE))];
        let plant = Plant::with(Some(status), Language::English).await;
        for path in ["/", "/update"] {
            let page = plant.get(path, "").await;
            assert!(page.contains("&lt;script&gt;alert(1)"), "{path}: {page}");
            assert!(!page.contains("<script>") && !page.contains("\" onfocus"), "{path}: {page}");
        }
        let events = plant.events_until("view=update", "event: update").await;
        assert!(!events.contains("<script>") && !events.contains("\\\" onfocus"), "{events}");
    }
}

#[tokio::test]
async fn a_package_with_thousands_of_files_makes_no_heavy_page() {
    let mut status = with_package("1.3.0", "aa11");
    let paths = (0..20_000).map(|number| format!("assets/pictures/of/the/plant/{number}.svg"));
    status.update.pending.as_mut().unwrap().changes.added = paths.collect();
    let plant = Plant::with(Some(status), Language::English).await;
    let page = plant.get("/update", "").await;
    assert!(page.contains("Files added: 20,000") && page.contains("and 19,800 more"), "{page}");
    assert!(page.len() < 50_000, "{} bytes", page.len());
}

#[tokio::test]
async fn an_update_under_way_is_told_calmly() {
    let mut status = applying();
    status.children[0].state = ChildState::NotReady;
    status.children[1].state = ChildState::Starting;
    status.problems = vec!["agent is being started".into()];
    let plant = Plant::with(Some(status.clone()), Language::English).await;
    let page = plant.get("/update", "").await;
    assert!(page.contains("<progress max=\"100\" value=\"70\""), "{page}");
    assert!(
        page.contains("<li aria-current=\"step\"><span class=\"sign\" aria-hidden=\"true\">▸</span> Put the new files")
    );
    assert!(!page.contains("data-ask"), "nothing is to be decided now: {page}");

    for phase in ["preparing", "migrating", "trial", "committing"] {
        status.phase = phase.into();
        plant.becomes(status.clone());
        let overview = plant.get("/", "").await;
        assert!(overview.contains("The update to version 1.3.0 is under way."), "{overview}");
        for alarm in ["headline attention", "headline fault", "class=\"attention\"", "class=\"fault\""] {
            assert!(!overview.contains(alarm), "{phase}: {overview}");
        }
    }
    status.phase = "falling_back".into();
    plant.becomes(status);
    assert!(plant.get("/", "").await.contains("The update is being taken back."));
}

#[tokio::test]
async fn a_failure_is_explained_and_the_previous_version_named() {
    let plant = Plant::with(Some(failed("confirm")), Language::English).await;
    let page = plant.get("/update", "").await;
    assert!(page.contains("The new version did not run as it should") && page.contains("failed says"), "{page}");
    assert!(page.contains("Version 1.2.0 runs as before") && page.contains("Try again"), "{page}");
    assert!(page.contains("&lt;i&gt;agent&lt;/i&gt; was not ready"), "{page}");
    let overview = plant.get("/", "").await;
    assert!(overview.contains("headline attention") && overview.contains("The update to version 1.3.0 failed."));
    assert!(overview.contains(">Update v1.3.0 failed</a>"), "{overview}");

    for (step, said) in [
        ("verify", "did not pass its check"),
        ("backup", "No backup could be made"),
        ("version", "could not be put in place"),
        ("migrate", "database could not be changed"),
        ("restart", "did not start"),
        ("unheard", "could not be completed"),
    ] {
        plant.becomes(failed(step));
        assert!(plant.get("/update", "").await.contains(said), "{step}");
    }
}

#[tokio::test]
async fn whoever_comes_back_after_an_update_sees_that_it_is_done() {
    let mut status = all_running();
    status.version = "1.3.0".into();
    status.update.progress = vec![step("done", 100)];
    status.update.history = vec![attempted("ok", None)];
    let plant = Plant::with(Some(status.clone()), Language::English).await;
    assert!(plant.get("/update", "").await.contains("Update to version 1.3.0 done."));
    assert!(plant.get("/", "").await.contains(">Updated to v1.3.0</a>"));

    status.update.history[0].time = Timestamp::parse("2026-02-22T10:00:00Z").unwrap();
    plant.becomes(status);
    let page = plant.get("/update", "").await;
    assert!(page.contains("No update is waiting.") && page.contains("<table class=\"history\">"), "{page}");
}

#[tokio::test]
async fn a_waiting_update_is_no_fault_and_later_makes_it_quiet() {
    let plant = Plant::with(Some(with_package("1.3.0", "aa11")), Language::French).await;
    let overview = plant.get("/", "").await;
    assert!(overview.contains("Tout fonctionne.") && overview.contains("Une mise à jour vers la version 1.3.0"));
    assert!(!overview.contains("attention"), "{overview}");

    let mut status = with_package("1.3.0", "aa11");
    status.update.pending.as_mut().unwrap().state = PendingState::Postponed;
    plant.becomes(status);
    let overview = plant.get("/", "").await;
    assert!(!overview.contains("Une mise à jour vers") && overview.contains(">Mise à jour v1.3.0 reportée</a>"));
    let page = plant.get("/update", "").await;
    assert!(page.contains("/api/update/apply") && !page.contains("/api/update/later"), "{page}");
}
