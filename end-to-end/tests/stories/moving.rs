//! From SQLite to PostgreSQL, with HQ going on where it was.

use std::time::Duration;

use end_to_end::exactly_once;
use end_to_end::programs::run;
use rand::Rng as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::{SERVER, SQLITE, World};

impl World {
    fn move_database(&self, to: &str) -> std::process::Command {
        let mut command = self.plant.command("watchdog");
        command.arg("move-database").arg("--root").arg(&self.plant.root).args(["--to", to]);
        command
    }
}

#[test]
fn readings_move_to_postgres_and_hq_gets_each_once() {
    let mut world = World::running(SQLITE);
    world.plant.wait_for_readings(50);
    world.headquarters.pull(world.plant.agent_port());
    let url = SERVER.new_database();
    let refused = run(&mut world.move_database(&url));
    assert!(refused.code == Some(1) && refused.errors.contains("stop the service first"), "{refused:?}");
    world.plant.wait_for_readings(80);
    world.plant.stop();
    world.import_history(30_000);

    let file = world.plant.root.join("config/credentials.env");
    let on_sqlite = std::fs::read_to_string(&file).unwrap();
    assert!(on_sqlite.contains("sqlite:"));
    // Killed at random moments: the target is empty, or it has everything.
    let before = world.plant.stored();
    for _ in 0..6 {
        let mut child = world.move_database(&url).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rand::thread_rng().gen_range(1..120)));
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
    }
    let moved = run(&mut world.move_database(&url)).good();
    assert!(moved.contains(&format!("{before} readings are now in")) || moved.contains("already"), "{moved}");
    // Killed between the two steps.
    std::fs::write(&file, on_sqlite).unwrap();
    let again = run(&mut world.move_database(&url)).good();
    assert!(again.contains("already"), "{again}");
    let credentials = std::fs::read_to_string(&file).unwrap();
    assert!(credentials.contains(&url) && credentials.contains("CONFIG_PIN_HASH"), "the PIN stays");
    assert_eq!(world.plant.stored(), before, "in the new database");

    world.plant.start_and_wait();
    world.plant.wait_for_readings(before + 30);
    let said = world.headquarters.pull(world.plant.agent_port());
    assert_eq!(said["cursor_exact"], true, "{said}");
    let (held, missing) = exactly_once::check_by_epoch(&world.headquarters.archives(), &world.plant.install_root())
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(held >= before + 30 && missing == 0, "{held} held, {missing} missing");
    world.assert_exactly_once();

    // Two histories are never mixed.
    let mut other = World::running(SQLITE);
    other.plant.wait_for_readings(10);
    other.plant.stop();
    let refused = run(&mut other.move_database(&url));
    assert!(refused.code != Some(0) && refused.errors.contains("empty database"), "{refused:?}");
    other.plant.start_and_wait();
}
