//! Databases that go away, processes that are killed: no reading is lost, none is doubled.

use std::time::Duration;

use end_to_end::wait_for;
use private_postgres::{Options, PrivatePostgres};
use rustix::process::{Signal, kill_process};

use crate::gathering::FAST;
use crate::{SQLITE, World};

#[test]
fn postgres_killed_again_and_again_loses_and_doubles_nothing() {
    let mut server = PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut world = World::new(&server.new_database());
    world.set_sources(FAST);
    world.plant.start_and_wait();
    for _ in 0..3 {
        let stored = world.plant.stored();
        world.plant.wait_for_readings(stored + 400);
        server.kill();
        wait_for("readings in the spool, and said so", Duration::from_secs(30), || {
            let status = world.plant.status()?;
            (status.spool_readings > 0 && status.problems.iter().any(|problem| problem.contains("spool"))).then_some(())
        });
        server.start_again().unwrap_or_else(|error| panic!("{error}"));
        wait_for("the spool to be empty again", Duration::from_secs(60), || {
            let collected = world.plant.status()?.collected?;
            (collected.store_error.is_none() && collected.spool_readings < 600).then_some(())
        });
    }
    let accepted =
        wait_for("the collector's account", Duration::from_secs(5), || world.plant.status()?.collected).readings_total;
    world.plant.stop();
    // Everything accepted is stored once: as many as there are, gathers are whole, and no time occurs twice for a tag.
    let stored = world.plant.stored();
    assert!(stored >= accepted, "{stored} stored, {accepted} accepted before the stop");
    assert_eq!(stored % 200, 0);
    let database = world.plant.database.rsplit('/').next().unwrap().to_owned();
    assert_eq!(server.sql(&database, "SELECT count(*) - count(DISTINCT (time, tag)) FROM readings"), "0");
    assert_eq!(server.sql(&database, "SELECT count(*) FROM epochs"), "1", "a crash of the server is no new history");
}

#[test]
fn a_collector_killed_again_and_again_doubles_nothing_and_is_back_within_seconds() {
    let mut world = World::running(SQLITE);
    for _ in 0..3 {
        let stored = world.plant.stored();
        world.plant.wait_for_readings(stored + 10);
        let before = world.plant.pid("collector");
        kill_process(before, Signal::KILL).unwrap();
        wait_for("another collector", Duration::from_secs(10), || {
            let status = world.plant.status()?;
            let collector = status.children.iter().find(|child| child.name == "collector")?;
            (collector.pid.is_some_and(|pid| pid.cast_signed() != before.as_raw_nonzero().get())
                && collector.restarts > 0)
                .then_some(())
        });
    }
    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 10);
    world.headquarters.pull(world.plant.agent_port());
    world.assert_exactly_once();
    let mut times: Vec<(String, String)> = world
        .headquarters
        .archives()
        .iter()
        .flat_map(|archive| end_to_end::exactly_once::lines(archive).unwrap())
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            (line["time"].to_string(), line["tag"].to_string())
        })
        .collect();
    let count = times.len();
    times.sort();
    times.dedup();
    assert_eq!(times.len(), count, "a reading is doubled");
    world.plant.stop();
}

#[test]
fn a_database_set_back_begins_a_new_epoch_and_hq_gets_what_is_new() {
    let mut world = World::running(SQLITE);
    world.plant.wait_for_readings(20);
    world.plant.stop();
    let data = world.plant.root.join("data");
    std::fs::copy(data.join("plant.db"), data.join("backup.db")).unwrap();
    world.plant.start_and_wait();
    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 20);
    let before = world.headquarters.pull(world.plant.agent_port());
    world.plant.stop();
    for file in ["plant.db-wal", "plant.db-shm"] {
        let _ = std::fs::remove_file(data.join(file));
    }
    std::fs::rename(data.join("backup.db"), data.join("plant.db")).unwrap();
    let restored = world.plant.stored();
    world.plant.start_and_wait();
    world.plant.wait_for_readings(restored + 20);
    let after = world.headquarters.pull(world.plant.agent_port());
    let epochs = after["epochs"].as_array().unwrap();
    assert_eq!(epochs.len(), 1);
    assert_ne!(epochs[0]["epoch"], before["epochs"][0]["epoch"]);
    assert_eq!(epochs[0]["first_seq"].as_u64().unwrap(), restored + 1, "what HQ had is not sent again");
    assert_eq!(after["cursor_exact"], true);
}
