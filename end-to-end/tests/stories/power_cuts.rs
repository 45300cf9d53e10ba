//! An update during which the power is cut: whatever of that which was not synced the disk has lost, the root comes to rest
//! at exactly one version. In the ordinary run of the stories a sample of the points; `cargo crash-points` tries all.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use end_to_end::crash_points::{At, Bench, Run};
use end_to_end::headquarters::Headquarters;
use end_to_end::lossy_disk::{Disk, Recording, Survives, Tree};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use updater::boot_record::BootRecord;
use updater::recovery::{self, Action, Cause};
use updater::transition::Step;

use crate::{KEYS, SQLITE};

const COMMITTED: [Run; 3] = [Run::Apply, Run::Start, Run::Passed];
const TAKEN_BACK: [Run; 3] = [Run::Apply, Run::Start, Run::Failed];

/// How much is tried.
#[derive(Clone, Copy)]
struct Effort {
    /// Every so many points of a recording.
    every: usize,
    /// At each of them, beside the hard cases: nothing lost, everything, all data, all entries.
    random: usize,
}

/// A root in which an update is approved, and what has been tried with it.
struct World {
    folder: tempfile::TempDir,
    bench: Bench,
    /// States that came out the same were tried before.
    seen: HashSet<u64>,
    tried: usize,
    /// With nothing lost, as after a kill: every prefix of what a run does.
    prefixes: usize,
    at_old: usize,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let headquarters = Headquarters::new(&KEYS, folder.path());
        let bench = Bench::lay(&folder.path().join("bench"), &headquarters, SQLITE);
        Self { folder, bench, seen: HashSet::new(), tried: 0, prefixes: 0, at_old: 0 }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A seed names a state, so that it can be tried again.
    fn try_power_cut(&mut self, context: &str, disk: &Disk, random: usize) -> Vec<At> {
        let mut ends = Vec::from_iter(self.try_state(&format!("{context}, nothing lost"), &disk.now()));
        self.prefixes += ends.len();
        for mut survives in [Survives::Nothing, Survives::Entries, Survives::Data] {
            let tree = disk.after_power_cut(&mut survives);
            ends.extend(self.try_state(&format!("{context}, surviving: {survives:?}"), &tree));
        }
        for number in 0..random {
            let mut hasher = DefaultHasher::new();
            (context, number).hash(&mut hasher);
            let seed = hasher.finish();
            let mut survives = Survives::Some(Box::new(SmallRng::seed_from_u64(seed)));
            let tree = disk.after_power_cut(&mut survives);
            ends.extend(self.try_state(&format!("{context}, surviving by the seed {seed}"), &tree));
        }
        ends
    }

    /// Recovers from it; where that ends, unless this very state has been tried before.
    fn try_state(&mut self, context: &str, tree: &Tree) -> Option<At> {
        let mut hasher = DefaultHasher::new();
        tree.hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return None;
        }
        self.tried += 1;
        let bench = self.bench.elsewhere(&self.place("cut"));
        tree.write(bench.root.path());
        let decided = decided(&bench);
        let at = bench.settle().unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(at, decided, "{context}: the boot record alone decides");
        if at == At::Old {
            self.at_old += 1;
            // The next attempt finds nothing in its way.
            assert!(updater::pending::read(&bench.root).is_some(), "{context}: the package is gone");
            bench.approve();
            assert_eq!(bench.run(Run::Apply), Some(0), "{context}: the next attempt");
            assert_eq!(bench.settle(), Ok(At::New), "{context}: the next attempt");
        }
        Some(at)
    }

    fn tell(&self) {
        println!(
            "{} states tried, {} of them prefixes with nothing lost; {} ended at the old version",
            self.tried, self.prefixes, self.at_old
        );
        assert!(self.at_old > 0 && self.prefixes > 5 && self.tried > 20);
    }
}

/// Where the recovery's pure function leads, a trial being passed; for it there is nothing but the record.
fn decided(bench: &Bench) -> At {
    let mut record = BootRecord::read(&bench.root.boot_record()).unwrap();
    let mut cause = Cause::Start { boot: recovery::boot_id() };
    for _ in 0..8 {
        let step = match recovery::decide(&record, &cause) {
            Action::Run if record.running().starts_with("1.1.0-") => return At::New,
            Action::Run => return At::Old,
            Action::TakeAndRun(step) => {
                cause = Cause::TrialPassed;
                step
            }
            Action::Take(step) => step,
            Action::FinishCommit | Action::FinishFallback => Step::Finish { unlogged: None },
        };
        record = record.after(step).unwrap();
    }
    panic!("{record:?} never comes to rest")
}

fn try_update(runs: &[Run], ends_at: At, effort: Effort) {
    let mut world = World::new();
    let recording = Recording::of(&world.bench.copy(&world.place("recorded")), runs);
    let (mut number, mut points) = (0, 0);
    let end = recording.each_point(|point, disk| {
        number += 1;
        if number % effort.every == 0 {
            points += 1;
            world.try_power_cut(&format!("the power cut at {point:?} of {runs:?}"), disk, effort.random);
        }
    });
    // What a process has said by ending well is not taken back.
    let ends = world.try_power_cut(&format!("the power cut after {runs:?}"), &end, 4 * effort.random);
    assert!(ends.iter().all(|end| *end == ends_at), "{runs:?} ended, and then {ends:?}");
    print!("{points} of {number} points of {runs:?}: ");
    world.tell();
}

/// Killed, which loses nothing by itself, and the power cut while that is settled: what the killed process had not synced
/// can still be lost.
fn try_killed_before(runs: &[Run], is_chosen: impl Fn(usize, &Disk) -> bool, second: Effort) {
    let mut world = World::new();
    let recording = Recording::of(&world.bench.copy(&world.place("recorded")), runs);
    let (mut number, mut kills, mut cuts) = (0, 0, 0);
    recording.each_point(|killed, disk| {
        number += 1;
        if !is_chosen(number, disk) {
            return;
        }
        kills += 1;
        let bench = world.bench.elsewhere(&world.place("killed"));
        disk.now().write(bench.root.path());
        Recording::after(disk.clone(), &bench, &[Run::Start]).each_point(|cut, disk| {
            cuts += 1;
            if cuts % second.every == 0 {
                let context = format!("killed at {killed:?} of {runs:?}, and the power cut at {cut:?}");
                world.try_power_cut(&context, disk, second.random);
            }
        });
    });
    print!("{kills} points of {runs:?}, {} points of settling behind them: ", cuts / second.every);
    world.tell();
    assert!(kills > 2);
}

/// Everybody reads a boot record there that is not the one on the disk.
fn is_undecided(disk: &Disk) -> bool {
    let boot = |tree: Tree| tree.0.get(Path::new("state/boot")).cloned();
    boot(disk.now()) != boot(disk.after_power_cut(&mut Survives::Nothing))
}

#[test]
fn the_power_cut_while_an_update_is_settled_that_was_killed_before_its_decision_was_durable() {
    try_killed_before(&TAKEN_BACK, |_, disk| is_undecided(disk), Effort { every: 7, random: 0 });
}

#[test]
#[ignore = "takes long; `cargo crash-points` runs it"]
fn every_point_of_an_update_that_is_committed_killed_and_then_the_power_cut() {
    try_killed_before(&COMMITTED, |number, disk| number % 3 == 0 || is_undecided(disk), Effort { every: 3, random: 1 });
}

#[test]
#[ignore = "takes long; `cargo crash-points` runs it"]
fn every_point_of_an_update_that_is_taken_back_killed_and_then_the_power_cut() {
    try_killed_before(
        &TAKEN_BACK,
        |number, disk| number % 3 == 0 || is_undecided(disk),
        Effort { every: 3, random: 1 },
    );
}

#[test]
fn the_power_cut_at_a_sample_of_points_of_an_update_that_is_committed() {
    try_update(&COMMITTED, At::New, Effort { every: 17, random: 2 });
}

#[test]
fn the_power_cut_at_a_sample_of_points_of_an_update_that_is_taken_back() {
    try_update(&TAKEN_BACK, At::Old, Effort { every: 19, random: 2 });
}

#[test]
#[ignore = "takes long; `cargo crash-points` runs it"]
fn every_point_of_an_update_that_is_committed_survives_a_power_cut() {
    try_update(&COMMITTED, At::New, Effort { every: 1, random: 8 });
}

#[test]
#[ignore = "takes long; `cargo crash-points` runs it"]
fn every_point_of_an_update_that_is_taken_back_survives_a_power_cut() {
    try_update(&TAKEN_BACK, At::Old, Effort { every: 1, random: 8 });
}
