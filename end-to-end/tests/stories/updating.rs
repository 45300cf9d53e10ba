//! From the publisher to a confirmed new version, or back.

use std::path::Path;
use std::time::Duration;

use end_to_end::plant::PIN;
use end_to_end::programs::run;
use end_to_end::release::Release;
use end_to_end::wait_for;
use private_postgres::{Options, PrivatePostgres};
use serde_json::Value;
use updater::boot_record::Phase;

use crate::{SERVER, SQLITE, World};

/// Long enough for a slow machine: the trial itself takes a second here.
pub const ATTEMPT: Duration = Duration::from_secs(90);

const ALARMS_UP: &str = "CREATE TABLE alarms (id integer PRIMARY KEY, text text NOT NULL);";
const ALARMS_DOWN: &str = "DROP TABLE alarms;";

impl World {
    /// Running, with trials of one second and some readings stored.
    pub fn on_short_trial(database: &str) -> Self {
        Self::on_trial_of(1, database)
    }

    pub fn on_trial_of(seconds: u64, database: &str) -> Self {
        let mut world = Self::new(database);
        world.plant.set("UPDATE_TRIAL_SECONDS", &seconds.to_string());
        world.plant.start_and_wait();
        world.plant.wait_for_readings(20);
        world
    }

    pub fn release(&self, version: &str) -> Release {
        Release::new(version, self.folder.path()).onto(&self.plant).file("assets/new.txt", version)
    }

    pub fn alarms_release(&self, version: &str) -> Release {
        let release = self.release(version).migration("0002_add_alarms.sql", ALARMS_UP);
        release.migration("0002_add_alarms.down.sql", ALARMS_DOWN)
    }

    pub fn deliver(&self, package: &Path) {
        self.headquarters.deliver(self.plant.agent_port(), package).good();
    }

    /// Delivered, approved, and over.
    pub fn update(&self, release: &Release) -> Value {
        let number = self.plant.boot_record().attempts + 1;
        self.deliver(&release.publish(&self.headquarters));
        self.plant.approve_update();
        self.plant.wait_for_attempt(number, ATTEMPT)
    }

    pub fn file(&self, path: &str) -> String {
        std::fs::read_to_string(self.plant.root.join(path)).unwrap_or_default()
    }

    /// Collects and exports on, and no reading is missing or doubled.
    pub fn assert_goes_on(&self) {
        let stored = self.plant.stored();
        self.plant.wait_for_readings(stored + 20);
        self.headquarters.pull(self.plant.agent_port());
        assert!(self.assert_exactly_once() > stored);
    }

    /// Nothing is left of an attempt that failed: version directory, schema and `version.txt` are the old ones.
    pub fn assert_taken_back(&self, before: &updater::boot_record::BootRecord) {
        let after = self.plant.boot_record();
        assert_eq!((&after.current, &after.database, &after.floor), (&before.current, &before.database, &before.floor));
        assert_eq!(self.file("version.txt").trim(), env!("CARGO_PKG_VERSION"));
        let versions: Vec<_> = std::fs::read_dir(self.plant.root.join("versions")).unwrap().flatten().collect();
        assert_eq!(versions.len(), 1, "{versions:?}");
        let databases = std::fs::read_dir(self.plant.root.join("data")).unwrap().flatten();
        let copies = databases.filter(|entry| entry.file_name().to_string_lossy().starts_with("plant.1."));
        assert_eq!(copies.count(), 0);
        let waiting = self.plant.update_status(PIN).json();
        assert_eq!((&waiting["state"], &waiting["pending_update"]), (&"failed".into(), &true.into()), "{waiting}");
        assert!(self.plant.status().unwrap().problems.iter().any(|problem| problem.contains("failed")));
        self.assert_goes_on();
    }
}

#[test]
fn an_update_with_a_migration_is_delivered_approved_and_confirmed_on_sqlite() {
    an_update_is_delivered_approved_and_confirmed(SQLITE);
}

#[test]
fn an_update_with_a_migration_is_delivered_approved_and_confirmed_on_postgres() {
    an_update_is_delivered_approved_and_confirmed(&SERVER.new_database());
}

fn an_update_is_delivered_approved_and_confirmed(database: &str) {
    let world = World::on_short_trial(database);
    let port = world.plant.agent_port();
    let release = world.alarms_release("0.2.0").notes("Alarms.\n<b>Read</b> them.");
    let package = release.publish(&world.headquarters);
    world.deliver(&package);
    // Once more, as HQ does when it is not sure.
    world.deliver(&package);
    assert_eq!(world.plant.update_status("000000").status, 401);
    let waiting = world.plant.update_status(PIN).json();
    assert_eq!(waiting["pending_version"], "0.2.0", "{waiting}");
    assert_eq!(waiting["notes"], "Alarms.\n<b>Read</b> them.");
    assert_eq!(waiting["changes"]["added"], serde_json::json!(["assets/new.txt"]));
    let before = world.plant.boot_record();

    world.plant.approve_update();
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    assert_eq!((&line["status"], &line["to_version"]), (&Value::from("ok"), &Value::from("0.2.0")), "{line}");
    assert!(line.get("error").is_none());

    assert_eq!(world.file("version.txt").trim(), "0.2.0");
    let status = world.plant.status().unwrap();
    assert_eq!((status.version.as_str(), status.pending_version), ("0.2.0", None));
    assert_eq!(std::fs::read_to_string(world.plant.version_directory().join("assets/new.txt")).unwrap(), "0.2.0");
    let after = world.plant.boot_record();
    assert_eq!((after.floor.to_string(), after.previous.unwrap().current), ("0.2.0".to_owned(), before.current));
    assert_eq!(std::fs::read_dir(world.plant.root.join("backups")).unwrap().count(), 1);
    assert!(!world.plant.root.join("pending_update/meta.json").exists());
    assert!(world.plant.status().unwrap().update.progress.last().is_some_and(|step| step.pct == 100));
    // The port may be another one: the tests bind any that is free.
    let port_after = world.plant.agent_port();
    assert!(port > 0 && port_after > 0);
    for (version, word) in [("0.2.0", "same_version"), ("0.1.5", "older_version")] {
        let refused = world.headquarters.deliver(port_after, &world.release(version).publish(&world.headquarters));
        assert!(refused.code == Some(1) && refused.errors.contains(word), "{refused:?}");
    }
    world.assert_goes_on();
    // And once more on top of it, without a change to the database.
    let line = world.update(&world.release("0.3.0"));
    assert_eq!(line["status"], "ok", "{line}");
    world.assert_goes_on();
}

#[test]
fn while_the_database_is_away_a_fallback_waits_and_the_collector_spools() {
    let mut server = PrivatePostgres::start(&Options::default()).unwrap();
    let world = World::on_short_trial(&server.new_database());
    let before = world.plant.boot_record();
    // Never ready: there is time to take the database away.
    let release = world.alarms_release("0.2.0").script("portal", "exec sleep 1000");
    world.deliver(&release.publish(&world.headquarters));
    world.plant.approve_update();
    wait_for("the trial", ATTEMPT, || (world.plant.boot_record().phase == Phase::Trial).then_some(()));
    server.kill();
    let spooled = |at_least: u64| {
        wait_for("collector and portal of the old version alone, spooling", ATTEMPT, || {
            let status = world.plant.status()?;
            let running = |child: &str| {
                status.children.iter().any(|other| other.name == child && other.state.word() == "running")
            };
            let waits = status.phase == "falling_back" && status.version == env!("CARGO_PKG_VERSION");
            let told = status.problems.iter().any(|problem| problem.contains("taken back"));
            let alone = status.children.len() == 2 && running("collector") && running("portal");
            (waits && told && alone && status.spool_readings >= at_least).then_some(status.spool_readings)
        })
    };
    let first = spooled(1);
    spooled(first + 20);
    server.start_again().unwrap();
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    assert_eq!(line["status"], "failed", "{line}");
    assert_eq!(world.plant.status().unwrap().children.len(), 3);
    world.assert_taken_back(&before);
}

#[test]
fn a_killed_launcher_in_the_middle_of_an_update_is_followed_by_one_that_settles_it() {
    for phase in [Phase::Preparing, Phase::Migrating, Phase::Trial] {
        let mut world = World::new(SQLITE);
        world.plant.set("UPDATE_TRIAL_SECONDS", "3");
        world.plant.start_and_wait();
        world.plant.wait_for_readings(20);
        world.deliver(&world.alarms_release("0.2.0").publish(&world.headquarters));
        world.plant.approve_update();
        wait_for("the phase", ATTEMPT, || (world.plant.boot_record().phase as u8 >= phase as u8).then_some(()));
        world.plant.kill_launcher();
        world.plant.start();
        let line = world.plant.wait_for_attempt(1, ATTEMPT);
        let record = world.plant.boot_record();
        // Exactly the old or exactly the new version, database and all that shows it together.
        let new = line["status"] == "ok";
        assert_eq!(world.file("version.txt").trim(), if new { "0.2.0" } else { env!("CARGO_PKG_VERSION") }, "{line}");
        assert_eq!((record.database.is_some(), record.current.starts_with("0.2.0")), (new, new), "{line}");
        assert_eq!(world.file("agent/update_log.jsonl").lines().count(), 1);
        world.assert_goes_on();
        let again = world.update(&world.alarms_release("0.3.0"));
        assert_eq!(again["status"], "ok", "{again}");
        world.assert_goes_on();
    }
}

#[test]
fn a_failing_migration_changes_nothing_on_sqlite() {
    a_failing_migration_changes_nothing(SQLITE);
}

#[test]
fn a_failing_migration_changes_nothing_on_postgres() {
    a_failing_migration_changes_nothing(&SERVER.new_database());
}

fn a_failing_migration_changes_nothing(database: &str) {
    let world = World::on_short_trial(database);
    let before = world.plant.boot_record();
    let children: Vec<_> = world.plant.status().unwrap().children.iter().map(|child| child.pid).collect();
    let release = world.release("0.2.0").migration("0002_bad.sql", &format!("{ALARMS_UP} CREATE TABEL nonsense;"));
    let line = world.update(&release.migration("0002_bad.down.sql", ALARMS_DOWN));
    assert!(line["error"].as_str().unwrap().contains("0002_bad.sql"), "{line}");
    world.assert_taken_back(&before);
    let same: Vec<_> = world.plant.status().unwrap().children.iter().map(|child| child.pid).collect();
    assert_eq!(same, children, "nothing had to be restarted for it");
}

#[test]
fn the_operator_gets_what_was_shown_or_nothing() {
    let world = World::on_short_trial(SQLITE);
    world.deliver(&world.release("0.2.0").publish(&world.headquarters));
    let shown = world.plant.update_status(PIN).json()["manifest_sha256"].as_str().unwrap().to_owned();
    world.deliver(&world.release("0.2.1").publish(&world.headquarters));
    let refused = world.plant.apply_update(PIN, &shown);
    assert_eq!((refused.status, refused.json()["error"].as_str().unwrap()), (409, "replaced"), "{refused:?}");
    let older =
        world.headquarters.deliver(world.plant.agent_port(), &world.release("0.2.0").publish(&world.headquarters));
    assert!(older.errors.contains("older_version"), "{older:?}");
    let wrong = world.plant.apply_update("000000", &shown);
    assert_eq!((wrong.status, wrong.json()["tries_left"].as_u64()), (403, Some(4)), "{wrong:?}");
    assert_eq!(world.plant.boot_record().attempts, 0);
    // Pressed twice, it is applied once.
    let hash = world.plant.update_status(PIN).json()["manifest_sha256"].as_str().unwrap().to_owned();
    let answers = [world.plant.apply_update(PIN, &hash), world.plant.apply_update(PIN, &hash)];
    assert_eq!((answers[0].status, answers[1].status), (202, 409), "{answers:?}");
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    assert_eq!((&line["status"], &line["to_version"]), (&Value::from("ok"), &Value::from("0.2.1")));
    assert_eq!(world.plant.boot_record().attempts, 1);
}

#[test]
fn a_strangers_packages_and_deliveries_are_answered_as_described() {
    let mut world = World::new(SQLITE);
    world.plant.set("UPDATE_MAX_BYTES", "1000000");
    world.plant.start_and_wait();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories/plain_delivery.py");
    let mut python = std::process::Command::new("python3");
    python.arg("-B").arg(script).arg(world.plant.agent_port().to_string());
    python.arg(world.headquarters.keys.join("private.pem")).arg(world.headquarters.keys.join("update_private.pem"));
    let said: Value = serde_json::from_str(&run(&mut python).good()).unwrap();
    let waiting = world.plant.update_status(PIN).json();
    assert_eq!(waiting["manifest_sha256"], said["manifest_sha256"]);
    assert_eq!((&waiting["pending_version"], &waiting["bound"]), (&Value::from("0.2.1"), &Value::from(false)));
    let pending = world.plant.root.join("pending_update");
    let mut left: Vec<_> = std::fs::read_dir(&pending).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["incoming", "meta.json", "update_v0.2.1.zip"]);
    assert_eq!(std::fs::read_dir(pending.join("incoming")).unwrap().count(), 0);
    assert!(!world.plant.root.join("versions/assets").exists());
}

#[test]
fn while_an_update_is_applied_nothing_new_is_told_and_nothing_is_lost() {
    let mut world = World::new(SQLITE);
    world.plant.set("UPDATE_TRIAL_SECONDS", "4");
    world.plant.start_and_wait();
    world.plant.wait_for_readings(20);
    world.headquarters.pull(world.plant.agent_port());
    world.deliver(&world.alarms_release("0.2.0").publish(&world.headquarters));
    world.plant.approve_update();
    wait_for("the trial", ATTEMPT, || {
        let status = world.plant.status()?;
        let runs = status.children.iter().all(|child| child.state.word() == "running");
        (status.phase == "trial" && runs).then_some(())
    });
    let told = world.headquarters.pull(world.plant.agent_port())["period_end"].clone();
    let stored = world.plant.stored();
    let in_trial = world.headquarters.pull(world.plant.agent_port());
    if world.plant.status().is_some_and(|status| status.phase == "trial") {
        assert_eq!(in_trial["record_count"], 0, "{in_trial} after {told}");
        assert_eq!(world.plant.stored(), stored, "nothing enters the store on trial");
    }
    let delivery =
        world.headquarters.deliver(world.plant.agent_port(), &world.release("0.4.0").publish(&world.headquarters));
    assert!(delivery.code == Some(75) || world.plant.boot_record().attempt.is_none(), "{delivery:?}");
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    assert_eq!(line["status"], "ok", "{line}");
    world.assert_goes_on();
}
