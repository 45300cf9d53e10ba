//! Whatever is written meanwhile, and whatever becomes of the database: HQ has every reading, each once.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use end_to_end::exactly_once;
use end_to_end::headquarters::Headquarters;
use end_to_end::programs::run;
use end_to_end::proxy::CuttingProxy;
use end_to_end::wait_for;
use private_postgres::{Options, PrivatePostgres};
use protocol::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use readings::{Appended, Batch, Quality, Reading};
use serde_json::Value;
use updater::database::ActiveDatabase;

use crate::gathering::FAST;
use crate::updating::ATTEMPT;
use crate::{SERVER, SQLITE, World};

/// So long several writers write and two headquarters pull.
const TROUBLED: Duration = Duration::from_secs(6);
const SOON: Duration = Duration::from_secs(60);

#[test]
fn the_union_of_all_pulls_is_the_table_on_sqlite() {
    the_union_of_all_pulls_is_the_table(SQLITE);
}

#[test]
fn the_union_of_all_pulls_is_the_table_on_postgres() {
    the_union_of_all_pulls_is_the_table(&SERVER.new_database());
}

fn the_union_of_all_pulls_is_the_table(database: &str) {
    let mut world = World::new(database);
    let other = world.second_headquarters();
    world.plant.start_and_wait();
    world.plant.wait_for_readings(10);
    let seed: u64 = rand::random();
    println!("seed {seed}");

    let (over, port) = (Arc::new(AtomicBool::new(false)), world.plant.agent_port());
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (over, world) = (over.clone(), &world);
            scope.spawn(move || write_at_random(world, writer, seed, &over));
        }
        if database != SQLITE {
            let (over, name) = (over.clone(), database.rsplit('/').next().unwrap());
            scope.spawn(move || long_transactions(name, &over));
        }
        scope.spawn(|| pull_by_cursor(&world.headquarters, port, seed, &over));
        scope.spawn(|| pull_by_time(&other, port, seed, &over));
        let until = Instant::now() + TROUBLED;
        wait_for("the end of it", TROUBLED * 2, || (Instant::now() > until).then_some(()));
        over.store(true, Ordering::Relaxed);
    });
    // All that was written before is in the last pulls.
    let written = world.plant.stored();
    world.headquarters.pull(port);
    let since = newest_period_end(&other);
    run(other.sync_client(port).args(["--since", &since])).good();
    for headquarters in [&world.headquarters, &other] {
        let pulled = exactly_once::check(&headquarters.archives(), &world.plant.install_root());
        let pulled = pulled.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(pulled >= written, "seed {seed}: {pulled} of {written}");
        assert!(headquarters.archives().len() > 5, "seed {seed}");
        headquarters.verify().good();
    }
}

/// Batches of all sizes, their times equal, late, early, jumping by years.
fn write_at_random(world: &World, number: u64, seed: u64, over: &AtomicBool) {
    let random = &mut SmallRng::seed_from_u64(seed ^ number);
    let root = world.plant.install_root();
    let mut store = ActiveDatabase::of(&root).unwrap().open(root.path()).unwrap();
    let (writer, mut position) = (format!("writer{number}"), 0);
    let equal = Timestamp::now();
    while !over.load(Ordering::Relaxed) {
        let offset = [0, 0, 1, -3600, 31_536_000, -31_536_000][random.gen_range(0..6)] * 1_000_000;
        let time = match random.gen_range(0..3) {
            0 => equal,
            _ => Timestamp::from_micros(Timestamp::now().as_micros() + offset).unwrap(),
        };
        let reading = |at: usize| Reading {
            time,
            tag: format!("late{}", at % 5).into(),
            value: Some(at as f64 / 8.0),
            unit: None,
            quality: Quality::GOOD,
            text: at.is_multiple_of(7).then(|| "a \"text\"\n🚪".to_owned()),
        };
        let readings: Vec<Reading> = (0..random.gen_range(1..60)).map(reading).collect();
        let batch = Batch { writer: &writer, from: position, to: position + 1, readings: &readings, gaps: &[] };
        // Twice, as after a commit whose outcome was never learnt.
        for _ in 0..random.gen_range(1..3) {
            let appended = store.append(&batch).unwrap_or_else(|error| panic!("{error}"));
            assert!(matches!(appended, Appended::Stored { .. } | Appended::AlreadyStored));
        }
        position += 1;
        std::thread::sleep(Duration::from_millis(random.gen_range(0..20)));
    }
}

/// Open for long, in this database and in another one of the same server, with ids handed out before and after.
fn long_transactions(database: &str, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        for database in [database, "postgres"] {
            SERVER.sql(
                database,
                "BEGIN; CREATE TEMPORARY TABLE open_for_long (x integer) ON COMMIT DROP; SELECT pg_current_xact_id();
                 SELECT pg_sleep(0.4); COMMIT",
            );
        }
    }
}

fn pull_by_cursor(headquarters: &Headquarters, port: u16, seed: u64, over: &AtomicBool) {
    let random = &mut SmallRng::seed_from_u64(seed.wrapping_add(10));
    while !over.load(Ordering::Relaxed) {
        headquarters.pull(port);
        std::thread::sleep(Duration::from_millis(random.gen_range(0..300)));
    }
}

/// As a client that knows nothing but the end of the last period.
fn pull_by_time(headquarters: &Headquarters, port: u16, seed: u64, over: &AtomicBool) {
    let random = &mut SmallRng::seed_from_u64(seed.wrapping_add(20));
    let mut since = "1970-01-01T00:00:00Z".to_owned();
    while !over.load(Ordering::Relaxed) {
        let said = run(headquarters.sync_client(port).args(["--since", &since])).good();
        let said: Value = serde_json::from_str(&said).unwrap();
        let end = said["period_end"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned();
        if since.starts_with("20") {
            assert_eq!(said["cursor_exact"], true, "{said}");
        }
        since = end;
        std::thread::sleep(Duration::from_millis(random.gen_range(0..300)));
    }
}

fn newest_period_end(headquarters: &Headquarters) -> String {
    let newest = headquarters.archives().pop().unwrap();
    let record = std::fs::read_to_string(newest.with_extension("json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    record["period_end"].as_str().unwrap().to_owned()
}

#[test]
fn a_dump_restored_into_the_same_server_loses_and_doubles_nothing_at_hq() {
    a_dump_restored_loses_and_doubles_nothing_at_hq(false);
}

#[test]
fn a_dump_restored_into_another_cluster_loses_and_doubles_nothing_at_hq() {
    a_dump_restored_loses_and_doubles_nothing_at_hq(true);
}

fn a_dump_restored_loses_and_doubles_nothing_at_hq(elsewhere: bool) {
    let other =
        elsewhere.then(|| PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}")));
    let url = SERVER.new_database();
    let mut world = World::running(&url);
    world.plant.wait_for_readings(30);
    world.headquarters.pull(world.plant.agent_port());
    let dump = world.folder.path().join("dump.sql");
    std::fs::write(&dump, SERVER.dump(&url)).unwrap();
    // What comes after the dump is exported, and lost with the database.
    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 20);
    world.headquarters.pull(world.plant.agent_port());
    world.plant.stop();
    let (server, restored) = match &other {
        Some(other) => (other, other.new_database()),
        None => (&*SERVER, url.clone()),
    };
    if !elsewhere {
        let name = url.rsplit('/').next().unwrap();
        SERVER.sql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
        SERVER.sql("postgres", &format!("CREATE DATABASE {name}"));
    }
    server.load(&restored, &dump);
    let credentials = world.plant.root.join("config/credentials.env");
    let text = std::fs::read_to_string(&credentials).unwrap().replace(&url, &restored);
    std::fs::write(&credentials, text).unwrap();
    world.plant.database = restored;
    world.plant.start_and_wait();
    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 20);
    world.headquarters.pull(world.plant.agent_port());
    let (held, missing) = exactly_once::check_by_epoch(&world.headquarters.archives(), &world.plant.install_root())
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(held > stored && missing == 0, "HQ holds {held}, and {missing} of the table's are missing");
    world.headquarters.verify().good();
}

#[test]
fn an_update_that_falls_back_after_exports_doubles_nothing_at_hq_on_sqlite() {
    an_update_that_falls_back_after_exports_doubles_nothing_at_hq(SQLITE);
}

#[test]
fn an_update_that_falls_back_after_exports_doubles_nothing_at_hq_on_postgres() {
    an_update_that_falls_back_after_exports_doubles_nothing_at_hq(&SERVER.new_database());
}

fn an_update_that_falls_back_after_exports_doubles_nothing_at_hq(database: &str) {
    let mut world = World::new(database);
    world.plant.set("UPDATE_TRIAL_SECONDS", "30");
    world.plant.start_and_wait();
    world.plant.wait_for_readings(20);
    world.headquarters.pull(world.plant.agent_port());
    world.deliver(&world.struck_program("collector", "KILL").publish(&world.headquarters));
    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 20);
    world.plant.approve_update();
    world.wait_for_trial();
    wait_for("the agent of the version on trial", ATTEMPT, || {
        let status = world.plant.status()?;
        status.children.iter().all(|child| child.state.word() == "running").then_some(())
    });
    let in_trial = world.headquarters.pull(world.plant.agent_port());
    assert_eq!(in_trial["record_count"], 0, "what may yet be taken back is not told: {in_trial}");
    world.strike();
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    assert_eq!(line["status"], "failed", "{line}");
    world.assert_goes_on();
}

#[test]
fn a_server_that_crashes_right_after_a_pull_takes_nothing_back() {
    let mut server = PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut world = World::new(&server.new_database());
    world.set_sources(FAST);
    world.plant.start_and_wait();
    let database = world.plant.database.rsplit('/').next().unwrap().to_owned();
    for _ in 0..4 {
        let stored = world.plant.stored();
        world.plant.wait_for_readings(stored + 400);
        // Transaction ids that never reach the log, and come again after the crash.
        let idle = "BEGIN; SELECT pg_current_xact_id(); SELECT pg_sleep(60)";
        let mut others: Vec<_> = (0..5)
            .map(|_| {
                server.psql(&database).args(["-c", idle]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
            })
            .collect();
        world.headquarters.pull(world.plant.agent_port());
        server.kill();
        for other in &mut others {
            other.wait().unwrap();
        }
        server.start_again().unwrap_or_else(|error| panic!("{error}"));
    }
    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 400);
    world.headquarters.pull(world.plant.agent_port());
    assert!(world.assert_exactly_once() > stored);
    assert_eq!(server.sql(&database, "SELECT count(*) FROM epochs"), "1", "a crash is no new history");
}

#[test]
fn a_commit_whose_outcome_nobody_learns_is_stored_once() {
    let proxy = CuttingProxy::start(SERVER.port());
    let direct = SERVER.new_database();
    let by_proxy = direct.replace(&format!(":{}/", SERVER.port()), &format!(":{}/", proxy.port()));
    assert_ne!(direct, by_proxy);
    let mut world = World::new(&by_proxy);
    world.set_sources(FAST);
    world.plant.start_and_wait();
    for _ in 0..12 {
        let stored = world.plant.stored();
        world.plant.wait_for_readings(stored + 200);
        // Between two of the server's answers, or in the middle of one.
        proxy.cut_one_after(rand::thread_rng().gen_range(1..600));
        wait_for("a connection that broke off", SOON, || proxy.has_cut().then_some(()));
    }
    wait_for("the spool to be empty again", SOON, || {
        let collected = world.plant.status()?.collected?;
        (collected.store_error.is_none() && collected.spool_readings < 600).then_some(())
    });
    world.headquarters.pull(world.plant.agent_port());
    world.plant.stop();
    let database = direct.rsplit('/').next().unwrap();
    assert_eq!(SERVER.sql(database, "SELECT count(*) - count(DISTINCT (time, tag)) FROM readings"), "0");
    assert_eq!(SERVER.sql(database, "SELECT count(*) % 200 FROM readings"), "0", "gathers are whole");
    assert_eq!(SERVER.sql(database, "SELECT count(*) FROM epochs"), "1");
    world.assert_exactly_once();
}

/// A whole disk put back to an earlier day: database, spool and the record of what was told alike.
#[test]
fn a_disk_that_was_rolled_back_loses_nothing_at_hq_although_another_hq_pulled_first() {
    let mut world = World::new(SQLITE);
    let other = world.second_headquarters();
    let (root, backup) = (world.plant.root.clone(), world.folder.path().join("backup"));
    let copy = |from: &Path, to: &Path| {
        for folder in ["data", "state"] {
            let _ = std::fs::remove_dir_all(to.join(folder));
            run(Command::new("cp").arg("-a").arg(from.join(folder)).arg(to)).good();
        }
    };
    world.plant.start_and_wait();
    world.plant.wait_for_readings(30);
    world.headquarters.pull(world.plant.agent_port());
    world.plant.wait_for_readings(60);
    world.plant.stop();
    std::fs::create_dir_all(&backup).unwrap();
    copy(&root, &backup);
    world.plant.start_and_wait();
    world.plant.wait_for_readings(120);
    world.headquarters.pull(world.plant.agent_port());
    world.plant.stop();
    let told = world.headquarters.archives().len();
    assert_eq!(told, 2);
    copy(&backup, &root);
    world.plant.start_and_wait();
    world.plant.wait_for_readings(90);
    other.pull(world.plant.agent_port());
    // It is asked to wait until the new epoch has begun.
    wait_for("a pull", Duration::from_secs(30), || {
        let ended = run(&mut world.headquarters.sync_client(world.plant.agent_port()));
        assert!(matches!(ended.code, Some(0 | 75)), "{ended:?}");
        (ended.code == Some(0)).then_some(())
    });
    world.plant.wait_for_readings(150);
    world.plant.stop();
    world.plant.start_and_wait();
    for headquarters in [&world.headquarters, &other] {
        headquarters.pull(world.plant.agent_port());
        let (held, missing) =
            exactly_once::check_by_epoch(&headquarters.archives(), &world.plant.install_root()).unwrap();
        assert!(held >= 150 && missing == 0, "{held} held, {missing} missing");
    }
}
