//! An update killed, or failed by the disk, at every system call that changes something. In the ordinary run of the
//! stories a sample of the points; `cargo crash-points` tries all of them.

use std::path::Path;

use end_to_end::crash_points::{self, At, Bench, Injection, Run};
use end_to_end::headquarters::Headquarters;
use end_to_end::plant::Plant;
use end_to_end::programs::{program, run};
use private_postgres::PrivatePostgres;
use updater::boot_record::Phase;

use crate::{KEYS, SERVER, SQLITE};

/// Every so many points of a recorded run.
const SAMPLE: usize = 23;

/// What is disturbed, and what has happened before.
pub struct Scene {
    pub name: &'static str,
    before: &'static [Run],
    pub disturbed: Run,
}

pub const SCENES: [Scene; 5] = [
    Scene { name: "applying", before: &[], disturbed: Run::Apply },
    Scene { name: "the start of the trial", before: &[Run::Apply], disturbed: Run::Start },
    Scene { name: "the commit", before: &[Run::Apply, Run::Start], disturbed: Run::Passed },
    Scene { name: "the fallback", before: &[Run::Apply, Run::Start], disturbed: Run::Failed },
    Scene { name: "a restore", before: &[Run::Apply, Run::Start, Run::Passed], disturbed: Run::Restore },
];

pub fn points(bench: &Bench, scene: &Scene, what: &'static str) -> Vec<Injection> {
    let calls = bench.record(scene.disturbed);
    let occurrences = calls.into_iter().flat_map(|(call, count)| (1..=count).map(move |at| (call.clone(), at)));
    occurrences.map(|(call, occurrence)| Injection { call, occurrence, what }).collect()
}

/// A fresh copy of the bench, brought to where the scene begins. PostgreSQL: with a copy of the database as well.
pub fn stage(bench: &Bench, folder: &Path, template: Option<(&PrivatePostgres, &str)>, scene: &Scene) -> Bench {
    let copy = bench.copy(folder);
    if let Some((server, template)) = template {
        copy.name_database(&server.copy_of(template));
    }
    for run in scene.before {
        assert_eq!(copy.run(*run), Some(0), "{}: {run:?}", scene.name);
    }
    copy
}

/// Once more, what did not come to its end: the next attempt finds nothing in its way.
pub fn try_again(bench: &Bench, scene: &Scene, at: At, context: &str) {
    let (again, expected) = match (scene.disturbed, at) {
        (Run::Restore, At::Old) => return,
        (Run::Restore, At::New) => (Run::Restore, At::Old),
        (_, At::New) => return,
        (_, At::Old) => {
            bench.approve();
            (Run::Apply, At::New)
        }
    };
    assert_eq!(bench.run(again), Some(0), "{context}: the next attempt");
    assert_eq!(bench.settle(), Ok(expected), "{context}: the next attempt");
}

fn try_points(database: &str, whats: &[&'static str], every: usize) {
    let folder = tempfile::tempdir().unwrap();
    let headquarters = Headquarters::new(&KEYS, folder.path());
    let bench = Bench::lay(&folder.path().join("bench"), &headquarters, database);
    let template = (database != SQLITE).then(|| (&*SERVER, database));
    let (mut tried, mut old, mut new) = (0, 0, 0);
    for scene in SCENES {
        for what in whats {
            let recorded = points(&stage(&bench, &folder.path().join("recorded"), template, &scene), &scene, what);
            for (number, point) in recorded.iter().enumerate() {
                // Another point of each scene, so that together they spread.
                if (number + tried) % every != 0 {
                    continue;
                }
                let copy = stage(&bench, &folder.path().join("copy"), template, &scene);
                copy.run_with(scene.disturbed, point);
                let context = || format!("{} disturbed by {point:?}", scene.name);
                let at = copy.settle().unwrap_or_else(|error| panic!("{}: {error}", context()));
                try_again(&copy, &scene, at, &context());
                match at {
                    At::New => new += 1,
                    At::Old => old += 1,
                }
                tried += 1;
            }
        }
    }
    println!("{tried} points tried: {old} ended at the old version, {new} at the new one");
    assert!(old > 0 && new > 0 && tried > 10);
}

/// Killed while applying or falling back, and killed again while that is settled.
fn try_twice(first_every: usize, second_every: usize) {
    let folder = tempfile::tempdir().unwrap();
    let headquarters = Headquarters::new(&KEYS, folder.path());
    let bench = Bench::lay(&folder.path().join("bench"), &headquarters, SQLITE);
    let [recorded, once, twice] = ["recorded", "once", "twice"].map(|name| folder.path().join(name));
    let mut tried = 0;
    for scene in [&SCENES[0], &SCENES[3]] {
        let firsts = points(&stage(&bench, &recorded, None, scene), scene, "signal=KILL");
        for first in firsts.iter().step_by(first_every) {
            let killed = stage(&bench, &once, None, scene);
            killed.run_with(scene.disturbed, first);
            let calls = killed.copy(&recorded).record(Run::Start);
            let seconds = calls.into_iter().flat_map(|(call, count)| (1..=count).map(move |at| (call.clone(), at)));
            for (call, occurrence) in seconds.skip(tried % second_every).step_by(second_every) {
                let again = killed.copy(&twice);
                let second = Injection { call, occurrence, what: "signal=KILL" };
                again.run_with(Run::Start, &second);
                let settled = again.settle();
                assert!(
                    settled.is_ok(),
                    "{} killed at {first:?}, then settling at {second:?}: {settled:?}",
                    scene.name
                );
                tried += 1;
            }
        }
    }
    println!("{tried} pairs of points tried");
    assert!(tried > 10);
}

#[test]
fn killed_twice_at_a_sample_of_system_calls() {
    try_twice(61, 19);
}

#[test]
#[ignore = "takes long; `cargo crash-points` runs it"]
fn every_point_killed_twice_in_a_row() {
    try_twice(7, 5);
}

#[test]
fn killed_at_a_sample_of_system_calls_on_sqlite() {
    try_points(SQLITE, &["signal=KILL"], SAMPLE);
}

#[test]
fn killed_at_a_sample_of_system_calls_on_postgres() {
    try_points(&SERVER.new_database(), &["signal=KILL"], SAMPLE);
}

#[test]
fn failed_by_the_disk_at_a_sample_of_system_calls() {
    try_points(SQLITE, &["error=EIO", "error=ENOSPC"], 2 * SAMPLE + 1);
}

#[test]
#[ignore = "takes long; `cargo crash-points` runs it"]
fn every_point_killed_on_sqlite() {
    try_points(SQLITE, &["signal=KILL"], 1);
}

#[test]
#[ignore = "takes long; `cargo crash-points` runs it"]
fn every_point_killed_on_postgres() {
    try_points(&SERVER.new_database(), &["signal=KILL"], 1);
}

#[test]
#[ignore = "takes long; `cargo crash-points` runs it"]
fn every_point_failed_by_the_disk() {
    try_points(SQLITE, &["error=EIO", "error=ENOSPC"], 1);
}

/// Killed at system calls of the applying process while it puts keys to use.
#[test]
fn a_change_of_keys_is_made_or_not_whenever_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let headquarters = Headquarters::new(&KEYS, folder.path());
    let programs = folder.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for name in updater::patch::PROGRAMS {
        std::fs::write(programs.join(name), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(programs.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let bench = Bench::with_programs(&folder.path().join("bench"), &headquarters, SQLITE, &programs);
    let [trusted, signing] = ["update_public.pem", "update_private.pem"].map(|key| headquarters.keys.join(key));
    let mut publish = program("publish");
    publish.args(["keys", "--keys-version", "2", "--json", "--out"]).arg(folder.path());
    run(publish.arg("--trust").arg(trusted).arg("--key").arg(signing)).good();
    bench.take_in(&folder.path().join("update_v0.0.0-keys.2.zip"));
    bench.approve();
    let settings = config::Settings::read(&bench.root).unwrap_or_else(|error| panic!("{error}"));
    let version = |bench: &Bench| {
        let record = updater::settle::read(&bench.root).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(record.phase, Phase::Committed);
        let version = updater::trusted_keys::read(&bench.root, &settings, &record).unwrap().version;
        assert_eq!(version, record.keys_version.max(1), "set and boot record");
        let line = &updater::update_log::newest(&bench.root, 1)[0];
        assert_eq!((line.attempt, line.status == "ok"), (record.attempts, version == 2), "{line:?}");
        version
    };
    let copy = folder.path().join("copy");
    let mut seen = [0, 0];
    for (call, count) in bench.copy(&copy).record(Run::Apply) {
        for occurrence in 1..=count {
            let killed = bench.copy(&copy);
            killed.run_with(Run::Apply, &Injection { call: call.clone(), occurrence, what: "signal=KILL" });
            assert_eq!(killed.run(Run::Start), Some(0), "{call} {occurrence}");
            let after = version(&killed);
            seen[usize::from(after == 2)] += 1;
            if after == 1 {
                killed.approve();
                assert_eq!(killed.run(Run::Apply), Some(0), "{call} {occurrence}: the next attempt");
                assert_eq!(version(&killed), 2);
            }
        }
    }
    println!("{} points tried: {seen:?}", seen[0] + seen[1]);
    assert!(seen[0] > 5 && seen[1] > 5, "{seen:?}");
}

#[test]
fn a_launcher_that_is_upgraded_is_the_old_or_the_new_one_whenever_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let headquarters = Headquarters::new(&KEYS, folder.path());
    let plant = Plant::init(&folder.path().join("plant"), &headquarters, SQLITE, 1, None);
    let (launcher, new) = (plant.root.join("watchdog"), plant.version_directory().join("watchdog"));
    let old = std::fs::read(&launcher).unwrap();
    // Another program to the eye, and the same to the loader.
    let newer = [old.as_slice(), b"newer"].concat();
    std::fs::write(&new, &newer).unwrap();
    let arguments = ["upgrade-launcher", "--root", &plant.root.to_string_lossy()].map(str::to_owned);
    let calls = crash_points::record(&launcher, &arguments, &folder.path().join("strace.log"));
    assert_eq!(std::fs::read(&launcher).unwrap(), newer);
    assert_eq!(std::fs::read(plant.root.join("watchdog.previous")).unwrap(), old);
    let mut seen = [0, 0];
    for (call, count) in calls {
        for occurrence in 1..=count {
            // Not in place: the program may still be running.
            std::fs::write(plant.root.join("back"), &old).unwrap();
            std::fs::set_permissions(plant.root.join("back"), std::fs::metadata(&new).unwrap().permissions()).unwrap();
            std::fs::rename(plant.root.join("back"), &launcher).unwrap();
            let point = Injection { call: call.clone(), occurrence, what: "signal=KILL" };
            crash_points::run_with(&launcher, &arguments, &point);
            let left = std::fs::read(&launcher).unwrap();
            assert!(left == old || left == newer, "killed at {point:?}: {} bytes", left.len());
            seen[usize::from(left == newer)] += 1;
            run(std::process::Command::new(&launcher).arg("--version")).good();
        }
    }
    assert!(seen[0] > 5, "{seen:?}");
    run(plant.command("watchdog").args(&arguments)).good();
    assert_eq!(std::fs::read(&launcher).unwrap(), newer);
}
