//! The plant PC's clock jumps while everything runs.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use end_to_end::programs::run;
use end_to_end::wait_for;
use protocol::Timestamp;

use crate::gathering::SOON;
use crate::{SQLITE, World};

const YEAR: i64 = 365 * 24 * 3600;

#[test]
fn a_clock_that_jumps_neither_bunches_nor_skips_polls_and_exports_stay_exact() {
    let mut world = World::new(SQLITE);
    world.set_sources("[[simulator]]\nname = \"line\"\ntags = 20\nperiod_seconds = 0.1\n");
    let offset = world.folder.path().join("offset");
    let jump = |seconds: i64| {
        let new = world.folder.path().join("offset.new");
        std::fs::write(&new, format!("{seconds}\n")).unwrap();
        std::fs::rename(new, &offset).unwrap();
    };
    jump(0);
    let preloaded = world.folder.path().join("jumping_clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories/jumping_clock.c");
    run(Command::new("cc").args(["-shared", "-fPIC", "-O", "-o"]).args([&preloaded, &source]).arg("-ldl")).good();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    world.plant.environment =
        vec![("LD_PRELOAD".to_owned(), text(&preloaded)), ("JUMPING_CLOCK".to_owned(), text(&offset))];
    world.plant.start_and_wait();
    let port = world.plant.agent_port();
    world.plant.wait_for_readings(400);
    for seconds in [-3600, YEAR, 0] {
        let (stored, started) = (world.plant.stored(), Instant::now());
        jump(seconds);
        let later = Timestamp::now().as_micros() + seconds * 1_000_000;
        let beats = wait_for("sixty beats", SOON, || {
            let beats = (world.plant.stored() - stored) / 20;
            (beats >= 60).then_some(beats)
        });
        let rate = beats as f64 / started.elapsed().as_secs_f64();
        assert!((8.0..12.0).contains(&rate), "{rate} beats a second after a jump to {seconds} s");
        let newest = world.stored_of("line.station01.speed").last().unwrap().0.as_micros();
        assert!((newest - later).abs() < 60_000_000, "the clock did not jump");
        world.headquarters.pull(port);
    }
    let stored = world.stored_of("line.station01.speed");
    let mut gaps: Vec<Duration> = stored
        .windows(2)
        .map(|pair| Duration::from_micros((pair[1].0.as_micros() - pair[0].0.as_micros()).unsigned_abs()))
        .collect();
    gaps.sort_unstable();
    let jumps = gaps.split_off(gaps.len() - 3);
    assert!(jumps.iter().all(|jump| *jump > Duration::from_secs(3000)), "{jumps:?}");
    let longest = gaps.last().unwrap();
    assert!(*longest < Duration::from_secs(1), "{longest:?} between two beats");
    world.plant.stop();
    world.plant.start_and_wait();
    world.headquarters.pull(world.plant.agent_port());
    world.assert_exactly_once();
}
