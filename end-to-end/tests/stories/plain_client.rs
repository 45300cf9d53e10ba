//! A client that was written from the session's description alone, in another language.

use std::process::Command;

use end_to_end::programs::run;

use crate::{KEYS, SERVER, SQLITE, World};

#[test]
fn a_strangers_client_gets_on_with_the_agent_on_sqlite() {
    a_strangers_client_gets_on_with_the_agent(SQLITE);
}

#[test]
fn a_strangers_client_gets_on_with_the_agent_on_postgres() {
    a_strangers_client_gets_on_with_the_agent(&SERVER.new_database());
}

fn a_strangers_client_gets_on_with_the_agent(database: &str) {
    let world = World::running(database);
    world.plant.wait_for_readings(20);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories/plain_client.py");
    let mut python = Command::new("python3");
    let ended =
        run(python.arg("-B").arg(script).arg(world.plant.agent_port().to_string()).arg(KEYS.join("private.pem")));
    assert_eq!(ended.good().trim(), "all as described");
}

#[test]
fn a_timestamp_is_good_enough_for_sync_client_when_asked() {
    let world = World::running(SQLITE);
    let mut client = world.headquarters.sync_client(world.plant.agent_port());
    run(client.args(["--auth", "timestamp"])).good();
    let mut challenge_only = World::new(SQLITE);
    challenge_only.plant.set("AGENT_AUTH", "challenge");
    challenge_only.plant.start_and_wait();
    let port = challenge_only.plant.agent_port();
    let refused = run(challenge_only.headquarters.sync_client(port).args(["--auth", "timestamp"]));
    assert_eq!(refused.code, Some(77), "{}", refused.errors);
    challenge_only.headquarters.pull(port);
}
