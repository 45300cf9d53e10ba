//! A version is put back by hand, and a boot record that the disk has lost.

use std::path::Path;

use end_to_end::plant::PIN;
use end_to_end::programs::{Ended, run};
use end_to_end::wait_for;
use updater::boot_record::{BootRecord, Phase};

use crate::updating::ATTEMPT;
use crate::{SERVER, SQLITE, World};

impl World {
    fn restore(&self, arguments: &[&str]) -> Ended {
        run(self.plant.command("watchdog").arg("restore").arg("--root").arg(&self.plant.root).args(arguments))
    }
}

#[test]
fn a_version_is_put_back_with_its_database_and_all_readings_since_on_sqlite() {
    a_version_is_put_back(SQLITE);
}

#[test]
fn a_version_is_put_back_with_its_database_and_all_readings_since_on_postgres() {
    a_version_is_put_back(&SERVER.new_database());
}

fn a_version_is_put_back(database: &str) {
    let mut world = World::on_short_trial(database);
    let first = world.plant.boot_record();
    let none = world.restore(&[]).good();
    assert!(none.contains("no backups"), "{none}");
    assert_eq!(world.update(&world.alarms_release("0.2.0"))["status"], "ok");
    // Readings that the older database has never seen, some of them exported.
    world.assert_goes_on();
    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 20);

    let listed = world.restore(&[]).good();
    assert!(listed.contains(env!("CARGO_PKG_VERSION")) && listed.contains("yes"), "{listed}");
    let running = world.restore(&["1", "--pin", PIN]);
    assert!(running.code == Some(1) && running.errors.contains("stop the service"), "{running:?}");
    world.plant.stop();
    let stored = world.plant.stored();
    let wrong = world.restore(&["1", "--pin", "000000"]);
    assert!(wrong.code == Some(77) && wrong.errors.contains("tries left"), "{wrong:?}");
    for (backup, says) in [("7", "no backup 7"), ("version.txt", "could not read"), ("0", "no backup 0")] {
        let refused = world.restore(&[backup, "--pin", PIN]);
        assert!(refused.code != Some(0) && refused.errors.contains(says), "{refused:?}");
    }
    let before = world.plant.boot_record();
    assert_eq!(before.current.split('-').next(), Some("0.2.0"), "{before:?}");
    let said = world.restore(&["1", "--pin", PIN]).good();
    assert!(said.contains("is put back"), "{said}");

    let after = world.plant.boot_record();
    assert_eq!((&after.current, &after.floor, after.phase), (&first.current, &first.floor, Phase::Committed));
    assert_eq!(world.plant.stored(), stored);
    assert_eq!(world.file("version.txt").trim(), env!("CARGO_PKG_VERSION"));
    let lines: Vec<String> = world.file("agent/update_log.jsonl").lines().map(str::to_owned).collect();
    assert!(lines.len() == 2 && lines[1].contains("\"from_version\":\"0.2.0\""), "{lines:?}");
    let twice = world.restore(&["1", "--pin", PIN]);
    assert!(twice.code == Some(2) && twice.errors.contains("runs already"), "{twice:?}");

    world.plant.start_and_wait();
    world.assert_goes_on();
    // And forward again, by the very package.
    assert_eq!(world.update(&world.alarms_release("0.2.0"))["status"], "ok");
    world.assert_goes_on();
}

fn lose(file: &Path) {
    let bytes = std::fs::metadata(file).unwrap().len() as usize;
    std::fs::write(file, vec![0xff; bytes]).unwrap();
}

#[test]
fn a_boot_record_lost_during_a_trial_leaves_the_version_from_before_on_sqlite() {
    a_boot_record_lost_during_a_trial(SQLITE);
}

#[test]
fn a_boot_record_lost_during_a_trial_leaves_the_version_from_before_on_postgres() {
    a_boot_record_lost_during_a_trial(&SERVER.new_database());
}

fn a_boot_record_lost_during_a_trial(database: &str) {
    let mut world = World::new(database);
    world.plant.set("UPDATE_TRIAL_SECONDS", "600");
    world.plant.start_and_wait();
    world.plant.wait_for_readings(20);
    let before = world.plant.boot_record();
    world.deliver(&world.alarms_release("0.2.0").publish(&world.headquarters));
    world.plant.approve_update();
    wait_for("a trial", ATTEMPT, || (world.plant.boot_record().phase == Phase::Trial).then_some(()));
    world.plant.kill_launcher();
    lose(&world.plant.root.join("state/boot"));
    world.plant.start_and_wait();
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    assert!(line["status"] == "failed" && line["error"].as_str().unwrap().contains("damaged"), "{line}");
    let after = world.plant.boot_record();
    assert_eq!((&after.current, &after.database, &after.floor), (&before.current, &before.database, &before.floor));
    world.assert_goes_on();
}

#[test]
fn where_nothing_is_certain_nothing_is_started_and_the_portals_address_says_what_to_do() {
    let mut world = World::on_short_trial(SQLITE);
    assert_eq!(world.update(&world.release("0.2.0"))["status"], "ok");
    let stored = world.plant.stored();
    world.plant.stop();
    let record = BootRecord::read(&world.plant.root.join("state/boot")).map_err(|error| error.to_string()).unwrap();
    for file in ["state/boot", "state/boot.committed"] {
        lose(&world.plant.root.join(file));
    }
    world.plant.start();
    let address = wait_for("a page that says what to do", ATTEMPT, || {
        let log = world.file("logs/watchdog.log");
        let shown = log.lines().find(|line| line.contains("what to do is shown here"))?.to_owned();
        shown.split("address=").nth(1).map(|address| address.trim().to_owned())
    });
    let page = end_to_end::portal::ask(&format!("http://{address}"), "GET", "/update", "", "").unwrap();
    assert!(page.status == 503 && page.body.contains("watchdog restore"), "{page:?}");
    assert!(world.plant.status().is_none_or(|status| status.children.is_empty()));
    world.plant.stop_with(78);

    let said = world.restore(&["1", "--pin", PIN]).good();
    assert!(said.contains("is put back"), "{said}");
    world.plant.start_and_wait();
    let after = world.plant.boot_record();
    assert_eq!(Some(after.current.as_str()), record.previous.as_ref().map(|previous| previous.current.as_str()));
    assert!(world.plant.stored() >= stored);
    world.assert_goes_on();
}
