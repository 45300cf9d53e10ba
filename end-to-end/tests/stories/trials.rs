//! New versions that are ill in every known way, and healthy ones whose machine is.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use end_to_end::release::Release;
use end_to_end::wait_for;
use protocol::Timestamp;
use readings::{Place, Span, migrate};
use updater::boot_record::Phase;
use updater::database::ActiveDatabase;

use crate::updating::ATTEMPT;
use crate::{SERVER, SQLITE, World};

/// What is promised beyond `UPDATE_TRIAL_SECONDS`, from the start of the new version to the old one at work again.
const BEYOND_TRIAL: Duration = Duration::from_secs(30);

/// Readings that a collector held in its spool when it last told of them.
struct Spooled {
    from: Timestamp,
    through: Timestamp,
    readings: u64,
}

impl World {
    fn spooled(&self) -> Option<Spooled> {
        let told = self.plant.status()?.collected?;
        assert!(told.dropped.is_empty(), "{told:?}");
        Some(Spooled { from: told.oldest_spooled_time?, through: told.last_time?, readings: told.spool_readings })
    }

    /// All of them are in the store, and nothing there is doubled.
    fn assert_stored(&self, spooled: &Spooled) {
        let root = self.plant.install_root();
        let mut store = ActiveDatabase::of(&root).unwrap().open(root.path()).unwrap();
        let head = store.head().unwrap();
        let (mut seen, mut found) = (HashSet::new(), 0);
        let mut each = |row: &readings::Row<'_>| {
            assert!(seen.insert((row.time, row.tag.to_owned())), "{} of {} is there twice", row.tag, row.time);
            found += u64::from((spooled.from..=spooled.through).contains(&row.time));
        };
        store.read(Span::all(head.first_seq, head.last_seq), &mut each).unwrap();
        assert!(found >= spooled.readings, "{found} of {} readings of the trial were stored", spooled.readings);
    }

    fn assert_schema_is_back(&self) {
        let database = ActiveDatabase::of(&self.plant.install_root()).unwrap();
        let applied = match readings::place(&database.url, &self.plant.root).unwrap() {
            Place::Sqlite(path) => migrate::applied_sqlite(&path).unwrap(),
            Place::Postgres => {
                let name = database.url.rsplit('/').next().unwrap();
                assert_eq!(SERVER.sql(name, "SELECT count(*) FROM pg_tables WHERE tablename = 'alarms'"), "0");
                migrate::applied_postgres(&database.url).unwrap()
            }
        };
        assert!(!applied.keys().any(|name| name.starts_with("0002")), "{applied:?}");
    }

    /// Until it has begun; of a version that cannot even be started, it may be over by then.
    pub fn wait_for_trial(&self) {
        let before = self.file("agent/update_log.jsonl").lines().count();
        wait_for("the trial", ATTEMPT, || {
            let attempt = self.plant.boot_record().attempt;
            let begun = attempt.is_some_and(|attempt| attempt.trial.starts > 0);
            (begun || self.file("agent/update_log.jsonl").lines().count() > before).then_some(())
        });
    }

    /// An update that has to be taken back, in time and with all that belongs to it; for a reason that says `why`.
    fn is_taken_back(&self, trial_seconds: u64, release: &Release, why: &str) {
        let before = self.plant.boot_record();
        let lines = self.file("agent/update_log.jsonl").lines().count();
        self.deliver(&release.publish(&self.headquarters));
        self.plant.approve_update();
        self.wait_for_trial();
        let started = Instant::now();
        let mut spooled = None;
        wait_for("a fallback", ATTEMPT, || {
            spooled = self.spooled().or(spooled.take());
            (self.plant.boot_record().phase == Phase::Committed).then_some(())
        });
        let line = self.plant.wait_for_attempt(before.attempts + 1, ATTEMPT);
        let took = started.elapsed();
        assert!(took <= Duration::from_secs(trial_seconds) + BEYOND_TRIAL, "it took {took:?}\n{}", self.plant.logs());
        assert_eq!((&line["status"], &line["to_version"]), (&"failed".into(), &release.version.as_str().into()));
        let error = line["error"].as_str().unwrap();
        assert!(error.contains(why), "{error}\n{}", self.plant.logs());
        assert_eq!(self.file("agent/update_log.jsonl").lines().count(), lines + 1);
        let shown = self.plant.update_status(end_to_end::plant::PIN).json();
        assert_eq!(shown["error"], error, "{shown}");
        self.assert_taken_back(&before);
        self.assert_schema_is_back();
        if let Some(spooled) = spooled {
            self.assert_stored(&spooled);
        }
    }

    /// A program that lives until the file appears, and then does to itself what `signal` says.
    pub fn struck_program(&self, program: &str, signal: &str) -> Release {
        let flag = self.folder.path().join("break");
        let watch = format!("(until [ -e '{}' ]; do sleep 0.05; done; kill -{signal} $$) &", flag.display());
        self.alarms_release("0.2.0").wrapped(&self.plant, program, &format!("{watch}\nexec \"$real\" \"$@\""))
    }

    /// Strikes it when all programs have been ready for three seconds of the trial.
    pub fn strike(&self) {
        wait_for("a healthy trial", ATTEMPT, || {
            let status = self.plant.status()?;
            let ready = status.children.iter().all(|child| child.state.word() == "running");
            (status.phase == "trial" && status.children.len() == 3 && ready).then_some(())
        });
        let ready = Instant::now();
        wait_for("three seconds of it", ATTEMPT, || (ready.elapsed() > Duration::from_secs(3)).then_some(()));
        assert_eq!(self.plant.boot_record().phase, Phase::Trial, "{}", self.plant.logs());
        std::fs::write(self.folder.path().join("break"), "").unwrap();
    }

    fn is_taken_back_after_three_seconds(&self, trial_seconds: u64, program: &str, signal: &str, why: &str) {
        let release = self.struck_program(program, signal);
        std::thread::scope(|scope| {
            scope.spawn(|| self.strike());
            self.is_taken_back(trial_seconds, &release, why);
        });
    }
}

#[test]
fn a_version_that_exits_at_once_is_taken_back_on_sqlite() {
    a_version_that_exits_at_once_is_taken_back(SQLITE);
}

#[test]
fn a_version_that_exits_at_once_is_taken_back_on_postgres() {
    a_version_that_exits_at_once_is_taken_back(&SERVER.new_database());
}

fn a_version_that_exits_at_once_is_taken_back(database: &str) {
    let world = World::on_short_trial(database);
    let release = world.alarms_release("0.2.0").script("collector", "exit 1");
    world.is_taken_back(1, &release, "collector ended with exit code 1");
    // The next good one is taken.
    let line = world.update(&world.alarms_release("0.2.1"));
    assert_eq!(line["status"], "ok", "{line}");
    world.assert_goes_on();
}

#[test]
fn a_version_that_hangs_from_the_first_moment_is_taken_back() {
    let world = World::on_short_trial(SQLITE);
    let release = world.alarms_release("0.2.0").wrapped(&world.plant, "collector", "kill -STOP $$");
    world.is_taken_back(1, &release, "not ready in time: collector");
}

#[test]
fn a_version_that_never_becomes_ready_is_taken_back() {
    let world = World::on_short_trial(SQLITE);
    let release = world.alarms_release("0.2.0").script("portal", "exec sleep 1000");
    world.is_taken_back(1, &release, "ready in time");
}

#[test]
fn a_version_that_reports_another_version_is_taken_back() {
    let world = World::on_short_trial(SQLITE);
    let old = world.plant.version_directory().join("portal");
    let release = world.alarms_release("0.2.0").script("portal", &format!("exec '{}' \"$@\"", old.display()));
    world.is_taken_back(1, &release, "portal reports version 0.1.0 instead of 0.2.0");
}

#[test]
fn a_version_that_breaks_in_the_middle_of_its_trial_is_taken_back_on_sqlite() {
    World::on_trial_of(6, SQLITE).is_taken_back_after_three_seconds(6, "collector", "KILL", "collector was killed");
}

#[test]
fn a_version_that_breaks_in_the_middle_of_its_trial_is_taken_back_on_postgres() {
    let world = World::on_trial_of(6, &SERVER.new_database());
    world.is_taken_back_after_three_seconds(6, "collector", "KILL", "collector was killed");
}

#[test]
fn a_version_that_begins_to_hang_in_the_middle_of_its_trial_is_taken_back() {
    let world = World::on_trial_of(8, SQLITE);
    world.is_taken_back_after_three_seconds(8, "collector", "STOP", "collector does not answer");
}

#[test]
fn a_version_that_cannot_open_the_database_is_taken_back() {
    let world = World::on_short_trial(SQLITE);
    let elsewhere = "DATABASE_URL=sqlite:no/such/folder/plant.db exec \"$real\" \"$@\"";
    let release = world.alarms_release("0.2.0").wrapped(&world.plant, "collector", elsewhere);
    world.is_taken_back(1, &release, "collector ended with exit code");
}

#[test]
fn a_version_that_starts_no_collector_is_taken_back() {
    let world = World::on_short_trial(SQLITE);
    // Its watchdog finds that there is no licence, and runs agent and portal.
    let unlicensed = "unset PLANTLINK_HAS_COLLECTED\nPLANTLINK_LICENSE_FILE=none exec \"$real\" \"$@\"";
    let release = world.alarms_release("0.2.0").wrapped(&world.plant, "watchdog", unlicensed);
    world.is_taken_back(1, &release, "ready in time");
}

#[test]
fn a_version_of_which_one_program_cannot_be_started_is_taken_back() {
    let world = World::on_short_trial(SQLITE);
    let release = world.alarms_release("0.2.0").script("portal", "");
    // Executable, and no program at all.
    std::fs::write(world.folder.path().join("release-0.2.0/files/portal"), "\u{7f}ELF nonsense").unwrap();
    world.is_taken_back(1, &release, "portal ended with exit code");
}

#[test]
fn a_version_whose_watchdog_cannot_be_started_is_taken_back() {
    let world = World::on_short_trial(SQLITE);
    let release = world.alarms_release("0.2.0").script("watchdog", "");
    std::fs::write(world.folder.path().join("release-0.2.0/files/watchdog"), "\u{7f}ELF nonsense").unwrap();
    world.is_taken_back(1, &release, "could not start");
}

#[test]
fn a_version_whose_watchdog_crashes_in_the_middle_of_its_trial_is_taken_back() {
    let world = World::on_trial_of(6, SQLITE);
    world.is_taken_back_after_three_seconds(6, "watchdog", "ABRT", "watchdog ended");
}

#[test]
fn a_version_whose_watchdog_hangs_from_the_first_moment_is_taken_back() {
    let world = World::on_short_trial(SQLITE);
    let release = world.alarms_release("0.2.0").script("watchdog", "exec sleep 1000");
    world.is_taken_back(1, &release, "no life");
}

#[test]
fn a_version_whose_watchdog_begins_to_hang_in_the_middle_of_its_trial_is_taken_back() {
    let world = World::on_trial_of(12, SQLITE);
    world.is_taken_back_after_three_seconds(12, "watchdog", "STOP", "no life");
}

impl World {
    /// In a boot of its own, with an update to 0.2.0 whose trial has just been begun.
    fn in_trial(trial_seconds: u64, boot: &str) -> Self {
        let mut world = Self::new(SQLITE);
        world.plant.set("UPDATE_TRIAL_SECONDS", &trial_seconds.to_string());
        world.plant.start_in_boot(boot);
        world.plant.wait_until_running();
        world.plant.wait_for_readings(20);
        world.deliver(&world.alarms_release("0.2.0").publish(&world.headquarters));
        world.plant.approve_update();
        world.wait_for_trial();
        world
    }

    /// Cuts the power, and starts the machine again in this boot.
    fn power_cycle(&mut self, boot: &str) {
        self.plant.cut_power();
        self.plant.start_in_boot(boot);
    }

    /// Until the trial has been begun so often.
    fn wait_for_starts(&self, starts: u32) {
        wait_for("the trial to begin anew", ATTEMPT, || {
            let attempt = self.plant.boot_record().attempt;
            attempt.is_some_and(|attempt| attempt.trial.starts >= starts).then_some(())
        });
    }
}

#[test]
fn three_power_cuts_in_a_healthy_trial_cause_no_fallback() {
    let mut world = World::in_trial(3, "boot-0");
    let mut spooled = Vec::new();
    for cut in 1..=3 {
        let seen = wait_for("readings of the trial", ATTEMPT, || {
            let status = world.plant.status()?;
            let on_trial = status.phase == "trial" && status.version == "0.2.0";
            world.spooled().filter(|seen| on_trial && seen.readings > 20 * cut)
        });
        spooled.push(seen);
        world.power_cycle(&format!("boot-{cut}"));
        world.wait_for_starts(1 + u32::try_from(cut).unwrap());
    }
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    assert_eq!((&line["status"], &line["to_version"]), (&"ok".into(), &"0.2.0".into()), "{line}");
    assert_eq!(world.file("version.txt").trim(), "0.2.0");
    assert_eq!(world.file("agent/update_log.jsonl").lines().count(), 1);
    world.assert_goes_on();
    spooled.iter().for_each(|spooled| world.assert_stored(spooled));
}

#[test]
fn a_trial_that_is_begun_again_and_again_in_one_boot_is_given_up() {
    // Once, three times again in the same boot, and no more.
    endless_restarts_are_bounded(4, |_| "boot-0".to_owned(), "again and again");
}

#[test]
fn a_trial_that_is_begun_again_and_again_by_power_cuts_is_given_up() {
    endless_restarts_are_bounded(10, |start| format!("boot-{start}"), "ten times");
}

fn endless_restarts_are_bounded(starts: u32, boot: impl Fn(u32) -> String, why: &str) {
    // Longer than any of it lasts.
    let mut world = World::in_trial(600, "boot-0");
    let before = updater::boot_record::BootRecord { attempt: None, ..world.plant.boot_record() };
    for start in 1..starts {
        world.power_cycle(&boot(start));
        world.wait_for_starts(start + 1);
    }
    let spooled = wait_for("readings of the trial", ATTEMPT, || world.spooled());
    world.power_cycle(&boot(starts));
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    assert!(line["status"] == "failed" && line["error"].as_str().unwrap().contains(why), "{line}");
    assert_eq!(world.file("agent/update_log.jsonl").lines().count(), 1);
    world.assert_taken_back(&before);
    world.assert_schema_is_back();
    world.assert_stored(&spooled);
}
