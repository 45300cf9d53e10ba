//! PostgreSQL killed at each step of an update on it. In the ordinary run of the stories a sample of the steps;
//! `cargo crash-points` tries all of them.

use end_to_end::crash_points::{At, Bench, Injection, Run};
use end_to_end::headquarters::Headquarters;
use private_postgres::{Options, PrivatePostgres};
use updater::boot_record::{BootRecord, Phase};
use updater::database::ActiveDatabase;

use crate::KEYS;
use crate::crashes::{SCENES, points, stage, try_again};

/// Exit code of what is to be tried again later.
const TRY_LATER: i32 = 75;

/// Every so many messages to the server, and of the other system calls.
fn try_steps(every_message: usize, every_other: usize) {
    let mut server = PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    // What it has written outlives it: it is killed, not the machine. So its starts need not wait for the disk.
    server.sql("postgres", "ALTER SYSTEM SET fsync = off");
    server.sql("postgres", "SELECT pg_reload_conf()");
    let template = server.new_database();
    let folder = tempfile::tempdir().unwrap();
    let headquarters = Headquarters::new(&KEYS, folder.path());
    let bench = Bench::lay(&folder.path().join("bench"), &headquarters, &template);
    let (mut tried, mut waited, mut old) = (0, 0, 0);
    for scene in SCENES {
        let recorded = stage(&bench, &folder.path().join("recorded"), Some((&server, &template)), &scene);
        let (messages, others): (Vec<Injection>, Vec<Injection>) =
            points(&recorded, &scene, "signal=STOP").into_iter().partition(|point| point.call == "sendto");
        let chosen = messages.iter().step_by(every_message).chain(others.iter().skip(tried % 5).step_by(every_other));
        for point in chosen {
            let context = || format!("{}, the server killed at {point:?}", scene.name);
            let copy = stage(&bench, &folder.path().join("copy"), Some((&server, &template)), &scene);
            let ended = copy.run_with_a_stop(scene.disturbed, point, || server.kill());
            let database = ActiveDatabase::of(&copy.root).unwrap().url;
            let database = database.rsplit('/').next().unwrap();
            // A restore looks through all processes of the machine, each time as many as there are then.
            if ended.is_none() && scene.disturbed == Run::Restore {
                server.sql("postgres", &format!("DROP DATABASE {database}"));
                continue;
            }
            assert!(ended.is_some_and(|code| code < 100), "{}: ended with {ended:?}", context());
            waited += usize::from(settles_or_waits(&copy).unwrap_or_else(|error| panic!("{}: {error}", context())));
            server.start_again().unwrap_or_else(|error| panic!("{}: {error}", context()));
            let at = copy.settle().unwrap_or_else(|error| panic!("{}: {error}", context()));
            old += usize::from(at == At::Old);
            try_again(&copy, &scene, at, &context());
            server.sql("postgres", &format!("DROP DATABASE {database}"));
            tried += 1;
        }
    }
    println!("{tried} steps tried: {old} ended at the old version; {waited} times it was waited for the server");
    assert!(old > 0 && old < tried && waited > 0);
}

/// The server being away: what needs it waits and says so, and the record stays where it was decided. Whether it waits.
fn settles_or_waits(bench: &Bench) -> Result<bool, String> {
    let settled = bench.run_and_hear(Run::Start);
    let phase = BootRecord::read(&bench.root.boot_record()).map_err(|error| error.to_string())?.phase;
    match (settled.code, phase) {
        (Some(0), Phase::Committed | Phase::Trial) => Ok(false),
        (Some(TRY_LATER), Phase::FallingBack | Phase::Committing)
            if settled.errors.contains("cannot be taken back yet") =>
        {
            Ok(true)
        }
        _ => Err(format!("in {phase:?}, and {settled:?}")),
    }
}

#[test]
fn postgres_killed_at_a_sample_of_the_steps_of_an_update() {
    try_steps(16, 70);
}

#[test]
#[ignore = "takes long; `cargo crash-points` runs it"]
fn every_point_of_an_update_at_which_postgres_is_killed() {
    try_steps(1, 1);
}
