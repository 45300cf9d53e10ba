//! An update during which the power is cut: whatever of that which was not synced the disk has lost, the root comes to rest
//! at exactly one version. In the ordinary run of the stories a sample of the points; `cargo crash-points` tries all.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::PathBuf;

use end_to_end::crash_points::{At, Bench, Run};
use end_to_end::headquarters::Headquarters;
use end_to_end::lossy_disk::{Disk, Recording, Survives, Tree};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::{KEYS, SQLITE};

const COMMITTED: [Run; 3] = [Run::Apply, Run::Start, Run::Passed];
const TAKEN_BACK: [Run; 3] = [Run::Apply, Run::Start, Run::Failed];

/// How much is tried.
#[derive(Clone, Copy)]
struct Effort {
    /// Every so many points of a recording.
    every: usize,
    /// At each of them, beside the four hard cases.
    random: usize,
}

/// A root in which an update is approved, and what has been tried with it.
struct World {
    folder: tempfile::TempDir,
    bench: Bench,
    /// States that came out the same were tried before.
    seen: HashSet<u64>,
    tried: usize,
    at_old: usize,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let headquarters = Headquarters::new(&KEYS, folder.path());
        let bench = Bench::lay(&folder.path().join("bench"), &headquarters, SQLITE);
        Self { folder, bench, seen: HashSet::new(), tried: 0, at_old: 0 }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A seed names a state, so that it can be tried again.
    fn try_power_cut(&mut self, context: &str, disk: &Disk, random: usize) -> Vec<At> {
        let hard = [Survives::Nothing, Survives::Everything, Survives::Entries, Survives::Data];
        let mut ends: Vec<At> = hard
            .into_iter()
            .filter_map(|mut survives| {
                let told = format!("{context}, surviving: {survives:?}");
                self.try_state(&told, &disk.after_power_cut(&mut survives))
            })
            .collect();
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
        let at = bench.settle().unwrap_or_else(|error| panic!("{context}: {error}"));
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
        println!("{} states tried, {} of them ended at the old version", self.tried, self.at_old);
        assert!(self.at_old > 0 && self.tried > 20);
    }
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
