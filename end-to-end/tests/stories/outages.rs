//! Databases that go away, processes that are killed: no reading is lost, none is doubled.

use std::time::Duration;

use end_to_end::programs::run;
use end_to_end::wait_for;
use private_postgres::{Options, PrivatePostgres};
use rustix::process::{Signal, kill_process};

use crate::gathering::{FAST, SOON};
use crate::modbus::{liar, right};
use crate::{SERVER, SQLITE, World};

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

/// What a database refuses of one batch: a value that somebody's constraint forbids, a name that no index takes.
#[test]
fn what_the_database_refuses_is_put_aside_and_the_rest_flows() {
    for database in [SQLITE.to_owned(), SERVER.new_database()] {
        let mut world = World::new(&database);
        world.set_sources("");
        world.plant.start_and_wait();
        let refuse = if database == SQLITE {
            "CREATE TRIGGER no_negatives BEFORE INSERT ON readings WHEN new.value < 0
             BEGIN SELECT RAISE(ABORT, 'no negative ones'); END"
        } else {
            "ALTER TABLE readings ADD CONSTRAINT no_negatives CHECK (value >= 0)"
        };
        let name = database.rsplit('/').next().unwrap();
        let file = world.plant.root.join("data/plant.db");
        let execute = |sql: &str| match database == SQLITE {
            true => rusqlite::Connection::open(&file).unwrap().execute_batch(sql).unwrap(),
            false => drop(SERVER.sql(name, sql)),
        };
        world.plant.stop();
        execute(refuse);
        // A device that knows nothing of that goes up and down through zero.
        let port = liar(|asked, request| vec![right(request, (asked as u16 % 20).wrapping_sub(5))]);
        world.set_sources(&format!(
            "[[modbus]]\nname = \"walk\"\naddress = \"127.0.0.1:{port}\"\n\n[[modbus.group]]\nperiod_seconds = 0.05\n\n\
             [[modbus.group.tag]]\nname = \"value\"\naddress = 0\ntype = \"int16\"\n"
        ));
        world.plant.start_and_wait();
        let told = wait_for("some to be put aside and the rest to flow", SOON, || {
            let collected = world.plant.status()?.collected?;
            (collected.set_aside >= 5 && world.values_of("walk.value").len() > 30).then_some(collected)
        });
        assert_eq!(told.store_error, None);
        assert!(world.plant.status().unwrap().problems.iter().any(|problem| problem.contains("set_aside")));
        // Also across a kill at some moment.
        kill_process(world.plant.pid("collector"), Signal::KILL).unwrap();
        let before = world.values_of("walk.value").len();
        wait_for("more", SOON, || (world.values_of("walk.value").len() > before + 30).then_some(()));
        let pulled = world.headquarters.pull(world.plant.agent_port());
        assert!(pulled["gaps"].to_string().contains("refused_by_database"), "{pulled}");
        world.plant.stop();
        let stored = world.values_of("walk.value");
        assert!(stored.iter().all(|(value, _)| value.is_none_or(|value| value >= 0.0)));
        let mut aside = Vec::new();
        for file in std::fs::read_dir(world.plant.root.join("state/collector/set_aside")).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            aside.extend(text.lines().map(|line| readings::parse_line(line.as_bytes()).unwrap()));
        }
        assert!(aside.len() >= 5 && aside.iter().all(|reading| reading.value.is_some_and(|value| value < 0.0)));
        let mut times: Vec<_> = world.stored_of("walk.value").into_iter().map(|(time, ..)| time).collect();
        times.extend(aside.iter().map(|reading| reading.time));
        let count = times.len();
        times.sort_unstable();
        times.dedup();
        assert_eq!(times.len(), count, "each once, here or there");
        // Once the cause is mended, they come in like history.
        execute(if database == SQLITE {
            "DROP TRIGGER no_negatives"
        } else {
            "ALTER TABLE readings DROP CONSTRAINT no_negatives"
        });
        let mut import = world.plant.command("collector");
        import.arg("--root").arg(&world.plant.root).arg("import");
        let files = std::fs::read_dir(world.plant.root.join("state/collector/set_aside")).unwrap();
        run(import.args(files.map(|file| file.unwrap().path()))).good();
        assert_eq!(world.values_of("walk.value").len(), count);
        // And nothing speaks of them any more.
        world.set_sources("");
        world.plant.start_and_wait();
        std::fs::remove_dir_all(world.plant.root.join("state/collector/set_aside")).unwrap();
        wait_for("nothing to be put aside", SOON, || (world.plant.status()?.collected?.set_aside == 0).then_some(()));
    }
}
