//! A disk that fills up: nothing becomes corrupt, what is lost is counted and told, and the rest goes on by itself.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use end_to_end::headquarters::Headquarters;
use end_to_end::plant::Plant;
use end_to_end::portal::ask;
use end_to_end::programs::run;
use end_to_end::wait_for;
use private_postgres::{Options, PrivatePostgres};

use crate::gathering::{FAST, SOON};
use crate::{KEYS, SQLITE, World};

/// A file system of its own, which goes with this.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(folder: &Path, megabytes: u32) -> Self {
        std::fs::create_dir(folder).unwrap();
        let size = format!("size={megabytes}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder)).good();
        Self(folder.to_owned())
    }

    fn free(&self) -> u64 {
        durable::free_bytes(&self.0).unwrap()
    }

    /// Somebody else's file, which leaves so much.
    fn fill_up_to(&self, free: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.0.join("ballast")).unwrap();
        let block = vec![0; 64 << 10];
        while self.free() > free && ballast.write_all(&block).is_ok() {}
    }

    fn clear(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn dropped(world: &World) -> Option<u64> {
    Some(world.plant.status()?.collected?.dropped.values().sum())
}

#[test]
fn a_full_disk_loses_only_what_is_told_and_recovers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("plant");
    let disk = SmallDisk::mount(&root, 700);
    let headquarters = Headquarters::new(&KEYS, &folder.path().join("data_storage"));
    let plant = Plant::init(&root, &headquarters, SQLITE, 10, None);
    // Dropped before the folder that it goes with, and behind the plant.
    let (mut world, disk) = (World { plant, headquarters, folder }, disk);
    world.plant.set("LOW_DISK_RESERVE_BYTES", "24M");
    world.set_sources(FAST);
    world.plant.start_and_wait();
    world.plant.wait_for_readings(4_000);

    disk.fill_up_to(20 << 20);
    wait_for("readings to be refused for the reserve's sake", SOON, || dropped(&world).filter(|count| *count > 0));
    let status = world.plant.status().unwrap();
    assert!(status.problems.iter().any(|problem| problem.contains("nearly full")), "{:?}", status.problems);
    assert!(disk.free() > 12 << 20, "the reserve is kept");
    world.headquarters.pull(world.plant.agent_port());
    assert_eq!(ask(&world.plant.address("portal"), "GET", "/", "", "").unwrap().status, 200);

    // Somebody else takes even the last byte.
    disk.fill_up_to(0);
    let before = dropped(&world).unwrap();
    wait_for("more to be refused", SOON, || dropped(&world).filter(|count| *count > before + 4_000));
    assert_eq!(ask(&world.plant.address("portal"), "GET", "/readings", "", "").unwrap().status, 200);
    let status = world.plant.status().unwrap();
    assert!(status.children.iter().all(|child| child.restarts == 0 && child.pid.is_some()), "{status:?}");

    disk.clear();
    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 4_000);
    world.set_sources("");
    let collected = wait_for("everything to be stored", SOON, || {
        let collected = world.plant.status()?.collected?;
        (collected.sources.is_empty() && collected.spool_readings == 0).then_some(collected)
    });
    let lost: u64 = collected.dropped.values().sum();
    assert_eq!(world.plant.stored(), collected.readings_total, "what was accepted is stored");
    assert_eq!((collected.readings_total % 200, lost % 200), (0, 0), "whole gathers, here or there");
    let port = world.plant.agent_port();
    let mut told: u64 = 0;
    wait_for("every gap to be told", SOON, || {
        let gaps = world.headquarters.pull(port)["gaps"].clone();
        told += gaps.as_array().into_iter().flatten().map(|gap| gap["readings"].as_u64().unwrap()).sum::<u64>();
        (told >= lost).then_some(())
    });
    assert_eq!(told, lost, "produced = stored + dropped and told");
    world.assert_exactly_once();
    let checked = rusqlite::Connection::open(root.join("data/plant.db")).unwrap();
    let sound: String = checked.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    drop(checked);
    world.plant.stop();
    drop(world.plant);
    drop(disk);
}

#[test]
fn how_long_the_spool_lasts_is_told_within_a_tenth() {
    let mut server = PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut world = World::new(&server.new_database());
    world.set_sources(FAST);
    world.plant.set("SPOOL_MAX_BYTES", "12M");
    world.plant.start_and_wait();
    world.plant.wait_for_readings(20_000);
    server.kill();
    let (left, told_at) = wait_for("less than half a minute to be left", Duration::from_secs(120), || {
        let left = world.plant.status()?.collected?.spool_seconds_left?;
        (left < 30.0).then_some((left, Instant::now()))
    });
    let full_at = wait_for("the spool to be full", Duration::from_secs(60), || {
        dropped(&world).filter(|count| *count > 0).map(|_| Instant::now())
    });
    let lasted = full_at.duration_since(told_at).as_secs_f64();
    // Told and looked at once a second.
    assert!((lasted - left).abs() <= left / 10.0 + 1.0, "{left} s were told, and it lasted {lasted:.1} s");
}
