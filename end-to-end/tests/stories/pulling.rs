//! Pulling, undisturbed and disturbed.

use std::process::{Command, Stdio};
use std::time::Duration;

use end_to_end::programs::{program, run};
use end_to_end::proxy::CuttingProxy;
use end_to_end::{kilobytes, wait_for};
use rand::Rng as _;

use crate::{KEYS, SERVER, SQLITE, World};

#[test]
fn two_pulls_hold_every_reading_once_on_sqlite() {
    two_pulls_hold_every_reading_once(SQLITE);
}

#[test]
fn two_pulls_hold_every_reading_once_on_postgres() {
    two_pulls_hold_every_reading_once(&SERVER.new_database());
}

fn two_pulls_hold_every_reading_once(database: &str) {
    let world = World::running(database);
    let port = world.plant.agent_port();
    world.plant.wait_for_readings(20);
    let first = world.headquarters.pull(port);
    world.plant.wait_for_readings(first["record_count"].as_u64().unwrap() + 10);
    let second = world.headquarters.pull(port);
    assert_eq!((&first["cursor_exact"], &second["cursor_exact"]), (&false.into(), &true.into()));
    assert_eq!(
        world.assert_exactly_once(),
        first["record_count"].as_u64().unwrap() + second["record_count"].as_u64().unwrap()
    );
    world.headquarters.verify().good();
    // Handing the first cut back has acknowledged it.
    let acknowledged = std::fs::read_to_string(world.plant.root.join("agent/last_sync.txt")).unwrap();
    assert_eq!(acknowledged.trim(), first["period_end"].as_str().unwrap());
}

#[test]
fn a_stream_that_is_cut_again_and_again_ends_as_the_same_archive() {
    let world = history(200_000);
    let proxy = CuttingProxy::start(world.plant.agent_port());
    let size = {
        let mut undisturbed = world.headquarters.clone();
        undisturbed.data = world.folder.path().join("undisturbed");
        undisturbed.pull(world.plant.agent_port());
        std::fs::metadata(&undisturbed.archives()[0]).unwrap().len()
    };
    let mut random = rand::thread_rng();
    loop {
        // Somewhere in what is left or behind it.
        proxy.cut_after(random.gen_range(1..size));
        let ended = run(&mut world.headquarters.sync_client(proxy.port()));
        match ended.code {
            Some(0) => break,
            Some(69 | 75) => {}
            code => panic!("{code:?}: {}{}", ended.output, ended.errors),
        }
    }
    assert_eq!(world.assert_exactly_once(), 200_000);
    world.headquarters.verify().good();
    // What was received whole was not sent again: each cut costs a member at most, and the handshakes.
    let passed = proxy.passed_bytes();
    let allowed = size + proxy.connections() * (450_000 + 20_000);
    assert!(passed <= allowed, "{passed} bytes passed for an archive of {size} in {} connections", proxy.connections());
}

#[test]
fn a_client_killed_at_any_moment_goes_on_and_loses_nothing() {
    let world = history(150_000);
    let proxy = CuttingProxy::start(world.plant.agent_port());
    proxy.slow_down(Duration::from_millis(2));
    let mut random = rand::thread_rng();
    for _ in 0..8 {
        let mut client = world.headquarters.sync_client(proxy.port());
        let mut client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let before = proxy.passed_bytes();
        let further = random.gen_range(1..400_000);
        // Until so many bytes have passed, or it has ended before.
        wait_for("bytes to pass", Duration::from_secs(60), || {
            (proxy.passed_bytes() > before + further || client.try_wait().unwrap().is_some()).then_some(())
        });
        let _ = client.kill();
        client.wait().unwrap();
    }
    proxy.slow_down(Duration::ZERO);
    world.headquarters.pull(proxy.port());
    assert_eq!(world.assert_exactly_once(), 150_000);
    world.headquarters.verify().good();
}

#[test]
fn a_large_export_takes_no_more_memory_than_a_few_members() {
    let world = history(400_000);
    let agent = world.plant.pid("agent");
    let before = kilobytes(agent, "VmRSS:");
    world.headquarters.pull(world.plant.agent_port());
    let grown = kilobytes(agent, "VmHWM:") - before;
    let lines: usize = world
        .headquarters
        .archives()
        .iter()
        .map(|archive| end_to_end::exactly_once::lines(archive).unwrap().iter().map(String::len).sum::<usize>())
        .sum();
    assert!(lines > 40_000_000, "{lines} bytes of lines are no large export");
    assert!(grown < 20_000, "the agent has grown by {grown} kB while it exported {lines} bytes of lines");
}

#[test]
fn a_reader_of_a_byte_a_second_holds_nothing_up_and_is_cut_off_on_sqlite() {
    a_reader_of_a_byte_a_second_holds_nothing_up_and_is_cut_off(SQLITE);
}

#[test]
fn a_reader_of_a_byte_a_second_holds_nothing_up_and_is_cut_off_on_postgres() {
    a_reader_of_a_byte_a_second_holds_nothing_up_and_is_cut_off(&SERVER.new_database());
}

fn a_reader_of_a_byte_a_second_holds_nothing_up_and_is_cut_off(database: &str) {
    let mut world = World::new(database);
    // More than the kernel's buffers take, however well it packs.
    let mut random = rand::thread_rng();
    let mut rows = String::from("time,tag,value,text\n");
    for _ in 0..40_000 {
        rows += "2026-02-22T00:00:00Z,note,,";
        rows.extend((0..600).map(|_| char::from(random.gen_range(b'a'..=b'p'))));
        rows.push('\n');
    }
    world.import(&rows);
    world.plant.start_and_wait();
    let agent = world.plant.pid("agent");
    let before = kilobytes(agent, "VmRSS:");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories/slow_reader.py");
    let mut python = Command::new("python3");
    python.arg("-B").arg(script).arg(world.plant.agent_port().to_string()).arg(KEYS.join("private.pem"));
    let mut reader = python.stdout(Stdio::piped()).spawn().unwrap();
    let mut oldest = 0.0_f64;
    wait_for("the slow reader's end", Duration::from_secs(100), || {
        if let (false, Some(name)) = (database == SQLITE, database.rsplit('/').next()) {
            let query =
                "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()";
            oldest = oldest.max(SERVER.sql(name, query).trim().parse().unwrap());
        }
        reader.try_wait().unwrap()
    });
    let said = std::io::read_to_string(reader.stdout.take().unwrap()).unwrap();
    let (seconds, bytes) = said.lines().last().unwrap().split_once(' ').unwrap();
    let (seconds, bytes): (u64, u64) = (seconds.parse().unwrap(), bytes.parse().unwrap());
    assert!((15..60).contains(&seconds) && bytes < 60, "cut off after {seconds} s and {bytes} bytes");
    assert!(oldest < 5.0, "a transaction was open for {oldest} s");
    // Members of text that hardly packs are over 2 MB each; a few of them wait, and no more.
    let grown = kilobytes(agent, "VmHWM:") - before;
    assert!(grown < 40_000, "the agent has grown by {grown} kB");
    // Meanwhile and afterwards others are served.
    world.headquarters.pull(world.plant.agent_port());
    assert!(world.assert_exactly_once() > 40_000);
}

#[test]
fn readers_that_go_away_leave_no_export_behind() {
    let world = history(150_000);
    let proxy = CuttingProxy::start(world.plant.agent_port());
    // Twice as many as there may be at once, each cut somewhere in the middle.
    for number in 0..32 {
        proxy.cut_after(20_000 + number * 25_000);
        let mut headquarters = world.headquarters.clone();
        headquarters.data = world.folder.path().join(format!("gone-{number}"));
        let mut client = headquarters.sync_client(proxy.port());
        let mut client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let passed = proxy.passed_bytes();
        wait_for("bytes to pass", Duration::from_secs(60), || {
            (proxy.passed_bytes() > passed + 15_000 || client.try_wait().unwrap().is_some()).then_some(())
        });
        let _ = client.kill();
        client.wait().unwrap();
    }
    proxy.cut_after(0);
    world.headquarters.pull(world.plant.agent_port());
    assert_eq!(world.assert_exactly_once(), 150_000);
}

#[test]
fn what_hq_gathered_restores_another_plant() {
    let world = history(3_000);
    world.headquarters.pull(world.plant.agent_port());
    let other = World::new(&SERVER.new_database());
    let archive = &world.headquarters.archives()[0];
    let import =
        || run(other.plant.command("collector").arg("--root").arg(&other.plant.root).arg("import").arg(archive)).good();
    assert!(import().contains("3000 readings imported"));
    assert!(import().contains("3000 had been imported before"), "the same file again brings nothing");
    assert_eq!(other.plant.stored(), 3_000);
}

#[test]
fn a_changed_agent_key_is_refused_until_it_is_accepted() {
    let mut world = World::running(SQLITE);
    world.headquarters.pull(world.plant.agent_port());
    world.plant.stop();
    for file in ["agent/cert.pem", "agent/key.pem", "state/boot"] {
        std::fs::remove_file(world.plant.root.join(file)).unwrap();
    }
    // Without its boot record a root is unfinished, and init completes it: with a new key.
    run(program("watchdog").args(["init", "--root"]).arg(&world.plant.root)).good();
    world.plant.start_and_wait();
    let port = world.plant.agent_port();
    let refused = run(&mut world.headquarters.sync_client(port));
    assert_eq!(refused.code, Some(77));
    assert!(
        refused.errors.contains("another key than before") && refused.errors.contains("--fingerprint"),
        "{}",
        refused.errors
    );
    let found = refused.errors.split("--fingerprint ").nth(1).unwrap()[..64].to_owned();
    run(world.headquarters.sync_client(port).args(["--fingerprint", &found])).good();
    world.headquarters.pull(port);
}

#[test]
fn a_key_behind_a_passphrase_opens_a_session_and_a_pull_of_another_time_leaves_the_chain_alone() {
    let mut world = World::new(SQLITE);
    let (keys, passphrase) = (world.folder.path().join("keys"), world.folder.path().join("passphrase"));
    std::fs::write(&passphrase, "correct horse\n").unwrap();
    run(program("keygen").arg("--out").arg(&keys).arg("--passphrase-file").arg(&passphrase)).good();
    std::fs::copy(keys.join("public.pem"), world.plant.root.join("config/server_public.pem")).unwrap();
    world.headquarters.keys = keys;
    world.plant.start_and_wait();
    world.plant.wait_for_readings(20);
    let port = world.plant.agent_port();
    let locked = run(&mut world.headquarters.sync_client(port));
    assert!(locked.code == Some(78) && locked.errors.contains("--passphrase-file"), "{}", locked.errors);
    let pull = |more: &[&str]| {
        let said =
            run(world.headquarters.sync_client(port).arg("--passphrase-file").arg(&passphrase).args(more)).good();
        serde_json::from_str::<serde_json::Value>(&said).unwrap()
    };
    let first = pull(&[]);
    let stored = world.plant.wait_for_readings(first["record_count"].as_u64().unwrap() + 10);
    let aside = pull(&["--since", first["period_end"].as_str().unwrap()]);
    assert!(aside["record_count"].as_u64().unwrap() > 0);
    let next = pull(&[]);
    let range = &next["epochs"][0];
    assert_eq!(range["first_seq"].as_u64().unwrap(), first["epochs"][0]["last_seq"].as_u64().unwrap() + 1);
    assert!(range["last_seq"].as_u64().unwrap() >= stored);
}

/// A running plant without devices, whose store holds so many readings.
fn history(readings: usize) -> World {
    let mut world = World::new(SQLITE);
    world.set_sources("");
    world.import_history(readings);
    assert_eq!(world.plant.stored(), readings as u64);
    world.plant.start_and_wait();
    world
}

impl World {
    /// Brings in so many readings of fifty tags.
    pub fn import_history(&self, readings: usize) {
        let mut random = rand::thread_rng();
        let mut rows = String::from("time,tag,value,unit\n");
        for at in 0..readings {
            let (second, tag) = (at / 50, at % 50);
            let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
            rows += &format!(
                "2026-02-22T{hour:02}:{minute:02}:{second:02}Z,line1.tag{tag},{:.3},C\n",
                random.gen_range(0.0..100.0)
            );
        }
        self.import(&rows);
    }

    fn import(&self, rows: &str) {
        let file = self.folder.path().join("history.csv");
        std::fs::write(&file, rows).unwrap();
        let mut import = self.plant.command("collector");
        run(import.arg("--root").arg(&self.plant.root).args(["import", "--quiet"]).arg(&file)).good();
    }
}
