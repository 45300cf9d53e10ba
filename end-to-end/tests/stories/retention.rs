//! `RETENTION_DAYS`: what HQ has may go from the plant PC, and nothing goes without a word.

use std::fmt::Write as _;
use std::time::Duration;

use end_to_end::exactly_once;
use end_to_end::headquarters::Headquarters;
use end_to_end::programs::run;
use end_to_end::wait_for;
use private_postgres::{Options, PrivatePostgres};
use protocol::Timestamp;
use serde_json::Value;

use crate::{SERVER, SQLITE, World};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SOON: Duration = Duration::from_secs(30);
/// Readings of each day of the history.
const A_DAY: u64 = 24;
/// And of each second, where there have to be many.
const A_SECOND: u64 = 1000;

impl World {
    /// Brings in a reading an hour of the last so many days, but for today; each day is a file, and so a batch.
    fn import_days(&self, days: u32) -> u64 {
        let mut import = self.plant.command("collector");
        import.arg("import").arg("--root").arg(&self.plant.root);
        for day in 0..days {
            let mut csv = "time,tag,value\n".to_owned();
            for hour in 0..A_DAY {
                let time = Timestamp::now().saturating_sub(DAY * (days + 1 - day) - Duration::from_secs(hour * 3600));
                writeln!(csv, "{},history,{hour}", time.with_micros()).unwrap();
            }
            let file = self.folder.path().join(format!("day{day:02}.csv"));
            std::fs::write(&file, csv).unwrap();
            import.arg(file);
        }
        run(&mut import).good();
        u64::from(days) * A_DAY
    }

    fn first_seq(&self) -> u64 {
        let root = self.plant.install_root();
        let database = updater::database::ActiveDatabase::of(&root).unwrap();
        database.open(root.path()).unwrap().head().unwrap().first_seq
    }
}

fn gaps(record: &Value) -> Vec<(String, u64)> {
    let gaps = record["gaps"].as_array().into_iter().flatten();
    gaps.map(|gap| (gap["reason"].as_str().unwrap().to_owned(), gap["readings"].as_u64().unwrap())).collect()
}

#[test]
fn what_every_headquarters_has_confirmed_goes_when_it_is_old_on_sqlite() {
    what_every_headquarters_has_confirmed_goes_when_it_is_old(SQLITE);
}

#[test]
fn what_every_headquarters_has_confirmed_goes_when_it_is_old_on_postgres() {
    what_every_headquarters_has_confirmed_goes_when_it_is_old(&SERVER.new_database());
}

fn what_every_headquarters_has_confirmed_goes_when_it_is_old(database: &str) {
    let mut world = World::new(database);
    let other = world.second_headquarters();
    let history = world.import_days(60);
    world.plant.set("RETENTION_DAYS", "30");
    world.plant.start_and_wait();
    let port = world.plant.agent_port();
    world.headquarters.pull(port);
    let other_pull = || serde_json::from_str::<Value>(&run(&mut other.sync_client(port)).good()).unwrap();
    other_pull();
    // Both have it, and one of them has not said so.
    let stored = world.plant.wait_for_readings(history + 20);
    world.headquarters.pull(port);
    world.plant.wait_for_readings(stored + 30);
    assert_eq!(world.first_seq(), 1, "kept for who has not confirmed it");
    other_pull();
    wait_for("an end to what is old", SOON, || (world.first_seq() > 1).then_some(()));
    let dropped = world.first_seq() - 1;
    assert!(dropped.abs_diff(30 * A_DAY) <= A_DAY, "{dropped}");

    // Who had it hears nothing; who comes anew hears how much is missing, and it stands in the record.
    let said = world.headquarters.pull(port);
    assert_eq!(gaps(&said), [], "{said}");
    let newcomer = Headquarters { data: world.folder.path().join("new_storage"), ..other.clone() };
    let said = newcomer.pull(port);
    assert_eq!(gaps(&said), [("retention".to_owned(), dropped)], "{said}");
    assert_eq!(said["record_count"].as_u64().unwrap() + dropped, last_seq(&said), "{said}");
    newcomer.verify().good();
    // No reading is missing at headquarters.
    let last_seq = last_seq(&world.headquarters.pull(port));
    let archives = world.headquarters.archives();
    let lines: usize = archives.iter().map(|archive| exactly_once::lines(archive).unwrap().len()).sum();
    assert_eq!(lines as u64, last_seq);
}

#[test]
fn a_disk_that_is_nearly_full_takes_the_oldest_unconfirmed_and_says_so() {
    let mut world = World::new(SQLITE);
    let history = world.import_days(10);
    world.plant.set("RETENTION_DAYS", "3650");
    world.plant.set("LOW_DISK_RESERVE_BYTES", "900000G");
    world.plant.start();
    // All but the last day, and no more: what could be stored meanwhile is none.
    wait_for("the oldest to go", SOON, || (world.first_seq() > 8 * A_DAY).then_some(()));
    world.plant.stop();
    world.plant.set("LOW_DISK_RESERVE_BYTES", "1M");
    world.plant.start_and_wait();
    world.plant.wait_for_readings(history + 10);
    let dropped = world.first_seq() - 1;
    assert!(dropped <= history, "{dropped} of {history}");
    let said = world.headquarters.pull(world.plant.agent_port());
    let told = gaps(&said);
    assert_eq!(told[0], ("dropped_disk_low".to_owned(), dropped), "{said}");
    assert_eq!(gaps(&world.headquarters.pull(world.plant.agent_port())), [], "once");
    world.headquarters.verify().good();
}

#[test]
fn what_a_full_spool_refuses_reaches_headquarters_as_a_gap() {
    let mut server = PrivatePostgres::start(&Options::default()).unwrap();
    let mut world = World::new(&server.new_database());
    world.plant.set("SPOOL_MAX_BYTES", "20K");
    world.set_sources("[[simulator]]\nname = \"fast\"\ntags = 100\nperiod_seconds = 0.1\n");
    world.plant.start_and_wait();
    world.plant.wait_for_readings(200);
    server.kill();
    let dropped = || {
        let collected = world.plant.status()?.collected?;
        collected.dropped.get("spool_full").copied().filter(|dropped| *dropped > A_SECOND * 10)
    };
    wait_for("a full spool", Duration::from_secs(120), dropped);
    // A kill may forget the last seconds of the account, and no more.
    let before = dropped().unwrap();
    world.plant.kill_launcher();
    server.start_again().unwrap();
    world.plant.start_and_wait();
    let port = world.plant.agent_port();
    let told = wait_for("the gap", SOON, || {
        let said = world.headquarters.pull(port);
        gaps(&said).into_iter().find(|(reason, _)| reason == "spool_full")
    });
    let (least, most) = (before - A_SECOND * 7, before + A_SECOND * 5);
    assert!((least..=most).contains(&told.1), "{told:?} of {before}");
    assert_eq!(gaps(&world.headquarters.pull(port)), [], "once");
    world.assert_exactly_once();
}

fn last_seq(said: &Value) -> u64 {
    let cursor: readings::Cursor = said["next_cursor"].as_str().unwrap().parse().unwrap();
    cursor.seq
}
