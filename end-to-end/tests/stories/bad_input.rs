//! Bad input: one line that says what is wrong, where, and what to do; and the exit code that scripts know.

use std::process::Command;

use end_to_end::programs::{Ended, program, run};

use crate::full_disk::SmallDisk;
use crate::{KEYS, SERVER, SQLITE, World};

fn assert_one_line(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}{}", ended.output, ended.errors);
    // Log lines begin with a time; the error is the other one.
    let lines: Vec<&str> = ended.errors.lines().filter(|line| !line.starts_with("20")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for word in words {
        assert!(lines[0].contains(word), "`{word}` is missing in: {}", lines[0]);
    }
}

fn daemon(world: &World, name: &str) -> Command {
    let mut command = world.plant.command(name);
    command.arg("--root").arg(&world.plant.root);
    command
}

#[test]
fn every_program_has_help_and_a_version() {
    drop(World::new(SQLITE));
    for name in ["watchdog", "collector", "portal", "agent", "sync_client", "publish", "keygen"] {
        assert!(run(program(name).arg("--help")).good().contains("Usage:"), "{name}");
        assert!(run(program(name).arg("--version")).good().starts_with(name), "{name}");
        assert_eq!(run(program(name).arg("--nonsense")).code, Some(2), "{name}");
    }
}

#[test]
fn keys_and_certificates() {
    let world = World::new(SQLITE);
    let at = |name: &str| world.plant.root.join(name);
    let good = std::fs::read(at("config/server_public.pem")).unwrap();
    std::fs::write(at("config/server_public.pem"), "not a key").unwrap();
    assert_one_line(&run(&mut daemon(&world, "agent")), 78, &["server_public.pem", "PEM"]);
    std::fs::remove_file(at("config/server_public.pem")).unwrap();
    assert_one_line(&run(&mut daemon(&world, "agent")), 78, &["server_public.pem", "could not read"]);
    std::fs::write(at("config/server_public.pem"), good).unwrap();

    let other = rsa_key(&world);
    let key = std::fs::read(at("agent/key.pem")).unwrap();
    std::fs::write(at("agent/key.pem"), other).unwrap();
    assert_one_line(&run(&mut daemon(&world, "agent")), 78, &["key.pem", "not the key of", "openssl req"]);
    std::fs::write(at("agent/key.pem"), key).unwrap();
    std::fs::remove_file(at("agent/cert.pem")).unwrap();
    assert_one_line(&run(&mut daemon(&world, "agent")), 78, &["cert.pem", "openssl req"]);
}

#[test]
fn an_update_that_is_none_or_that_nobody_takes_keeps_no_reading_from_hq() {
    let world = World::running(SQLITE);
    world.plant.wait_for_readings(10);
    let port = world.plant.agent_port();
    let package = world.folder.path().join("update_v1.2.0.zip");
    let mut client = world.headquarters.sync_client(port);
    assert_one_line(&run(client.arg("--update").arg(&package)), 1, &["update_v1.2.0.zip"]);
    std::fs::write(&package, "no archive").unwrap();
    let mut client = world.headquarters.sync_client(port);
    assert_one_line(&run(client.arg("--update").arg(&package)), 2, &["update_v1.2.0.zip", "no update package"]);
    let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], 'w'); \
                  z.writestr('manifest.json', '{\"version\":\"1.2.0\"}'); z.writestr('manifest.sig', b'x' * 384); z.close()";
    run(Command::new("python3").args(["-c", script]).arg(&package)).good();
    let mut client = world.headquarters.sync_client(port);
    let ended = run(client.arg("--quiet").arg("--update").arg(&package));
    assert_ne!(ended.code, Some(0), "{}", ended.output);
    assert!(world.assert_exactly_once() > 0, "the readings are at home, whatever became of the update");
}

fn rsa_key(world: &World) -> Vec<u8> {
    let path = world.folder.path().join("other.pem");
    let mut openssl = Command::new("openssl");
    run(openssl
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-quiet", "-out"])
        .arg(&path))
    .good();
    std::fs::read(path).unwrap()
}

#[test]
fn a_wrong_or_unreadable_key_of_hq() {
    let world = World::running(SQLITE);
    let port = world.plant.agent_port();
    let with_key = |key: &std::path::Path| {
        let mut command = program("sync_client");
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--client-id", "acme-2", "--quiet", "--key"]);
        command.arg(key).arg("--data-dir").arg(world.folder.path());
        run(&mut command)
    };
    assert_one_line(&with_key(&world.folder.path().join("none.pem")), 78, &["none.pem"]);
    assert_one_line(&with_key(&KEYS.join("public.pem")), 78, &["public.pem", "private"]);
    assert_one_line(
        &with_key(&KEYS.join("update_private.pem")),
        77,
        &["invalid signature", "config/server_public.pem"],
    );
    let mut nobody = program("sync_client");
    nobody.args(["--host", "127.0.0.1", "--port", "1", "--client-id", "acme-2", "--key"]).arg(KEYS.join("private.pem"));
    assert_one_line(&run(nobody.arg("--data-dir").arg(world.folder.path())), 69, &["127.0.0.1:1"]);
    let mut strict = world.headquarters.sync_client(port);
    assert_one_line(&run(strict.arg("--strict")), 77, &["--fingerprint"]);
    let again = run(program("keygen").arg("--out").arg(&*KEYS));
    assert_one_line(&again, 1, &["private.pem", "not overwritten"]);
}

#[test]
fn configuration_that_is_wrong() {
    let world = World::new(SQLITE);
    let config = world.plant.root.join("config/config.txt");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, good.clone() + "AGENT_PROT = 1\n").unwrap();
    let line = format!("config.txt:{}:", good.lines().count() + 1);
    for name in ["agent", "collector", "portal"] {
        assert_one_line(&run(&mut daemon(&world, name)), 78, &[&line, "unknown key AGENT_PROT"]);
    }
    assert_one_line(&run(world.plant.command("watchdog").args(["run", "--root"]).arg(&world.plant.root)), 78, &[&line]);
    let checked = run(world.plant.command("watchdog").args(["check-config", "--root"]).arg(&world.plant.root));
    assert!(checked.code == Some(78) && checked.output.contains(&line), "{}", checked.output);
    std::fs::write(&config, good).unwrap();

    world.set_sources("[[simulator]\n");
    assert_one_line(&run(&mut daemon(&world, "collector")), 78, &["sources.toml:1:"]);
    let nowhere = world.folder.path().join("nowhere");
    assert_one_line(&run(world.plant.command("watchdog").args(["run", "--root"]).arg(nowhere)), 78, &["watchdog init"]);
}

#[test]
fn ports_in_use() {
    let taken = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = [0, 1, 2].map(|at: usize| taken[at].local_addr().unwrap().port().to_string());
    let mut world = World::new(SQLITE);
    for (key, port) in ["AGENT_PORT", "PORTAL_PORT", "METRICS_PORT"].iter().zip(&ports) {
        world.plant.set(key, port);
    }
    world.plant.set("AGENT_BIND", "127.0.0.1");
    assert_one_line(&run(&mut daemon(&world, "agent")), 1, &[&ports[0], "AGENT_PORT"]);
    assert_one_line(&run(&mut daemon(&world, "portal")), 1, &[&ports[1], "PORTAL_PORT"]);
    assert_one_line(&run(&mut daemon_verb(&world, "supervise")), 1, &[&ports[2], "METRICS_PORT"]);
    world.plant.set("METRICS_PORT", &ports[0]);
    assert_one_line(&run(&mut daemon_verb(&world, "supervise")), 78, &["METRICS_PORT", "AGENT_PORT already"]);
}

fn daemon_verb(world: &World, verb: &str) -> Command {
    let mut command = world.plant.command("watchdog");
    command.arg(verb).arg("--root").arg(&world.plant.root);
    command
}

#[test]
fn databases_that_are_not_there() {
    let world = World::new(SQLITE);
    let file = world.folder.path().join("history.csv");
    std::fs::write(&file, "time,tag,value\n2026-02-22T10:00:00Z,a,1\n").unwrap();
    let import = |url: &str| run(daemon(&world, "collector").arg("import").arg(&file).env("DATABASE_URL", url));
    assert_one_line(&import("mysql://h/db"), 78, &["DATABASE_URL", "sqlite:"]);
    assert_one_line(&import("postgres://u:secret@127.0.0.1:1/db"), 69, &["127.0.0.1:1"]);
    let wrong = SERVER.new_database().replace("p%40ss", "other");
    assert_one_line(&import(&wrong), 78, &["password", "DATABASE_URL"]);
    std::fs::write(&file, "time,tag,value\n2026-02-22T10:00:00Z,a,1\nyesterday,a,1\n").unwrap();
    assert_one_line(&import(SQLITE), 1, &["history.csv:3:", "yesterday", "nothing of this file"]);
    assert_eq!(world.plant.stored(), 0);
}

#[test]
fn a_disk_without_room() {
    let mut world = World::new(SQLITE);
    let small = world.folder.path().join("small");
    let disk = SmallDisk::mount(&small, 400);
    world.plant = end_to_end::plant::Plant::init(&small.join("plant"), &world.headquarters, SQLITE, 10, None);
    let mut filler = std::fs::File::create(small.join("filler")).unwrap();
    let full =
        std::iter::repeat_with(|| std::io::Write::write_all(&mut filler, &[0; 4096])).find_map(Result::err).unwrap();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    for command in [
        &mut daemon(&world, "agent"),
        program("watchdog").args(["init", "--root"]).arg(small.join("other")),
        program("keygen").arg("--out").arg(small.join("keys")),
    ] {
        assert_one_line(&run(command), 74, &["free some space"]);
    }
    drop(disk);
}
