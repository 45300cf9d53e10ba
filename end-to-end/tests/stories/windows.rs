//! A plant PC with Windows, as far as Wine shows one; `cargo windows` builds its programs and runs these.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use end_to_end::crash_points::{At, Bench, Run};
use end_to_end::headquarters::Headquarters;
use end_to_end::plant::{PIN, Plant};
use end_to_end::programs::{Platform, run};
use end_to_end::release::Release;
use end_to_end::wait_for;
use end_to_end::windows::Scanner;
use updater::boot_record::Phase;

use crate::{KEYS, SQLITE, World};

/// Unoptimised, and through Wine.
const ATTEMPT: Duration = Duration::from_secs(300);

impl World {
    /// In a folder of this name.
    pub fn on_windows(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let headquarters = Headquarters::new(&KEYS, &folder.path().join("data_storage"));
        let plant = Plant::init_on(Platform::Windows, &folder.path().join(name), &headquarters, SQLITE, 10, None);
        Self { plant, headquarters, folder }
    }

    fn windows_release(&self, version: &str) -> Release {
        let release = self.release(version);
        let release = release.migration("0002_add_alarms.sql", "CREATE TABLE alarms (id integer PRIMARY KEY);");
        release.migration("0002_add_alarms.down.sql", "DROP TABLE alarms;")
    }
}

/// Collects, is pulled from both kinds of machines, takes an update and gives a bad one back: all of it in a folder whose
/// name has spaces and letters of another alphabet.
#[test]
#[ignore = "needs the programs built for Windows; `cargo windows` runs it"]
fn a_plant_collects_is_pulled_from_updated_and_falls_back() {
    let mut world = World::on_windows("Завод № 1 Plant");
    world.plant.set("UPDATE_TRIAL_SECONDS", "2");
    world.plant.start_and_wait();
    world.plant.wait_for_readings(20);
    let first = world.headquarters.pull(world.plant.agent_port());
    let before = world.plant.stored();
    world.plant.wait_for_readings(before + 20);
    let said = run(&mut world.headquarters.sync_client_on(Platform::Windows, world.plant.agent_port())).good();
    let second: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(first["record_count"].as_u64() > Some(0) && second["record_count"].as_u64() > Some(0), "{first} {second}");

    let good = world.windows_release("0.2.0").publish(&world.headquarters);
    world.headquarters.deliver(world.plant.agent_port(), &good).good();
    world.plant.approve_update();
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    assert_eq!((&line["status"], &line["to_version"]), (&"ok".into(), &"0.2.0".into()), "{line}");

    let current = world.plant.boot_record().current;
    let keygen = end_to_end::windows::built("keygen");
    let bad = world.release("0.3.0").program("collector.exe", &keygen).publish(&world.headquarters);
    world.headquarters.deliver(world.plant.agent_port(), &bad).good();
    world.plant.approve_update();
    let line = world.plant.wait_for_attempt(2, ATTEMPT);
    assert_eq!(line["status"], "failed", "{line}");
    assert_eq!(world.plant.boot_record().current, current);
    assert_eq!(world.plant.update_status(PIN).json()["state"], "failed");

    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 20);
    world.headquarters.pull(world.plant.agent_port());
    world.plant.stop();
    assert!(world.assert_exactly_once() > stored);
}

/// A launcher that is killed takes everything with it, and the next one settles what it left.
#[test]
#[ignore = "needs the programs built for Windows; `cargo windows` runs it"]
fn a_killed_launcher_takes_all_with_it_and_the_next_one_settles_an_update() {
    let mut world = World::on_windows("plant");
    world.plant.set("UPDATE_TRIAL_SECONDS", "3");
    world.plant.start_and_wait();
    world.plant.wait_for_readings(20);
    let package = world.windows_release("0.2.0").publish(&world.headquarters);
    world.headquarters.deliver(world.plant.agent_port(), &package).good();
    world.plant.approve_update();
    wait_for("the trial", ATTEMPT, || (world.plant.boot_record().phase == Phase::Trial).then_some(()));
    world.plant.kill_launcher();
    wait_for("every process of the plant to be gone", ATTEMPT, || {
        processes_of(&world.plant.root).is_empty().then_some(())
    });
    world.plant.start();
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    let new = line["status"] == "ok";
    let record = world.plant.boot_record();
    assert_eq!((record.database.is_some(), record.current.starts_with("0.2.0")), (new, new), "{line}");
    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 20);
    world.headquarters.pull(world.plant.agent_port());
    world.plant.stop();
    assert!(world.assert_exactly_once() > stored);
}

/// Processes whose command lines name this root.
fn processes_of(root: &Path) -> Vec<String> {
    let root = end_to_end::windows::path(root).to_string_lossy().into_owned();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(&root)).collect()
}

/// What Wine's programs ask of its server, which opens, renames and removes for them, and what they write themselves.
pub const CALLS: &str = "write,writev,pwrite64,fsync,fdatasync";
/// So many kills, spread over all that a step does.
const KILLS: u32 = 24;

#[test]
#[ignore = "needs the programs built for Windows; `cargo windows` runs it"]
fn an_update_killed_anywhere_is_at_the_old_or_the_new_version() {
    let folder = tempfile::tempdir().unwrap();
    let headquarters = Headquarters::new(&KEYS, folder.path());
    let bench = Bench::lay_on(Platform::Windows, &folder.path().join("bench"), &headquarters, SQLITE);
    let scenes: [(&[Run], Run); 4] = [
        (&[], Run::Apply),
        (&[Run::Apply], Run::Start),
        (&[Run::Apply, Run::Start], Run::Passed),
        (&[Run::Apply, Run::Start], Run::Failed),
    ];
    let (mut old, mut new, mut killed) = (0, 0, 0);
    let mut steps = BTreeSet::new();
    for (before, disturbed) in scenes {
        let stage = || {
            let copy = bench.copy(&folder.path().join("copy"));
            before.iter().for_each(|run| assert_eq!(copy.run(*run), Some(0), "{run:?}"));
            copy
        };
        let calls = stage().count(disturbed, CALLS);
        for kill in 0..KILLS {
            let copy = stage();
            let at = 1 + calls * kill / KILLS;
            killed += u32::from(copy.run_and_kill(disturbed, CALLS, at).is_none());
            steps.extend(updater::progress::read(&copy.root).pop().map(|step| step.step));
            match copy.settle().unwrap_or_else(|error| panic!("{disturbed:?} killed at {at} of {calls}: {error}")) {
                At::Old => old += 1,
                At::New => new += 1,
            }
        }
    }
    println!("{killed} kills in {steps:?}: {old} ended at the old version, {new} at the new one");
    assert!(old > 0 && new > 0 && killed > 3 * KILLS, "{killed} kills, {old} old, {new} new");
    let all = ["verify", "backup", "patch", "migrate", "restart"];
    assert!(all.iter().all(|step| steps.contains(*step)), "{steps:?}");
}

#[test]
#[ignore = "needs the programs built for Windows; `cargo windows` runs it"]
fn an_update_waits_for_a_virus_scanner_and_gives_up_cleanly_on_one_that_does_not_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let headquarters = Headquarters::new(&KEYS, folder.path());
    let bench = Bench::lay_on(Platform::Windows, &folder.path().join("bench"), &headquarters, SQLITE);
    for milliseconds in [500, 5000] {
        let copy = bench.copy(&folder.path().join("copy"));
        let scanner = Scanner::start(folder.path(), copy.root.path(), Some(Duration::from_millis(milliseconds)));
        assert_eq!(copy.run(Run::Apply), Some(0), "held for {milliseconds} ms");
        assert_eq!(copy.settle(), Ok(At::New), "held for {milliseconds} ms");
        assert!(scanner.end() > 5, "held for {milliseconds} ms");
    }
    let copy = bench.copy(&folder.path().join("copy"));
    let scanner = Scanner::start(folder.path(), &copy.root.versions(), None);
    let ended = copy.run_and_hear(Run::Apply);
    assert!(ended.code != Some(0) && ended.errors.contains("could not"), "{ended:?}");
    assert_eq!(copy.settle(), Ok(At::Old), "{ended:?}");
    assert!(scanner.end() > 0);
    copy.approve();
    assert_eq!((copy.run(Run::Apply), copy.settle()), (Some(0), Ok(At::New)), "without the scanner");
}

#[test]
#[ignore = "needs the programs built for Windows; `cargo windows` runs it"]
fn a_root_in_other_letters_is_the_same_root_and_one_with_too_long_a_name_is_refused() {
    let mut world = World::on_windows("Plant");
    world.plant.start_and_wait();
    let root = end_to_end::windows::path(&world.plant.root).to_string_lossy().to_uppercase();
    let status = run(Platform::Windows.program("watchdog").args(["status", "--json", "--root", &root])).good();
    let status: protocol::control::PlantStatus = serde_json::from_str(&status).unwrap();
    assert_eq!(status.children.len(), 3);
    let second = run(world.plant.command("watchdog").args(["run", "--root", &root]));
    assert!(second.code == Some(1) && second.errors.contains("another watchdog runs"), "{second:?}");
    world.plant.stop();

    let long = format!(r"{root}\{}", "long ".repeat(40));
    let refused = run(Platform::Windows.program("watchdog").args(["init", "--root", &long]));
    assert!(refused.code == Some(2) && refused.errors.contains("180 at most"), "{refused:?}");
}
