//! OPC UA, against asyncua: told and asked, open and secured, a status that is bad, a server that starts again.

use std::path::{Path, PathBuf};
use std::process::Command;

use end_to_end::programs::run;
use end_to_end::python::{self, Server};
use end_to_end::wait_for;

use crate::World;
use crate::gathering::SOON;

const PASSWORD: &str = "se cret#1";

fn server(port: u16, folder: Option<&Path>) -> Server {
    let environment = python::environment("opcua", &["asyncua==1.1.6"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories/opcua_server.py");
    let folder = folder.map_or("-", |folder| folder.to_str().unwrap());
    Server::start(&environment, Path::new(script), &[&port.to_string(), folder])
}

fn source(name: &str, port: u16, keys: &str, tags: &[(&str, &str)]) -> String {
    let mut text = format!(
        "[[opcua]]\nname = \"{name}\"\nurl = \"opc.tcp://127.0.0.1:{port}/mill\"\ntimeout_seconds = 2\n{keys}\n\n\
         [[opcua.group]]\nperiod_seconds = 0.1\n"
    );
    for (name, keys) in tags {
        text += &format!("[[opcua.group.tag]]\nname = \"{name}\"\n{keys}\n");
    }
    text
}

/// By the namespace's URI, as its number is the server's affair.
fn node(name: &str) -> String {
    format!("node = \"nsu=urn:test:mill;s=Mill.{name}\"")
}

#[test]
fn a_server_tells_or_is_asked_and_its_times_and_its_status_are_kept() {
    let mut server = server(0, None);
    let names = ["speed", "count", "door", "state", "list"].map(|name| (name, node(name)));
    let mut tags: Vec<(&str, &str)> = names.iter().map(|(name, node)| (*name, node.as_str())).collect();
    tags.push(("nowhere", "node = \"ns=1;s=Mill.nowhere\""));
    tags.push(("strange", "node = \"nsu=urn:test:none;i=1\""));
    let beating = format!("{}\nheartbeat_seconds = 1", node("door"));
    let text = source("told", server.port, "", &tags)
        + &source("asked", server.port, "mode = \"poll\"", &tags)
        + &source("beating", server.port, "", &[("door", beating.as_str())]);
    let mut world = World::with_sources(&text);
    let shown = world.gather_once();
    let line = |name: &str| shown.iter().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{shown:#?}"));
    for (name, value) in [("speed", " 1480.5 "), ("count", " 7 "), ("door", " 1 "), ("state", " run ")] {
        for source in ["told", "asked"] {
            let line = line(&format!("{source}.{name}"));
            assert!(line.contains(value) && line.contains(" good "), "{line}");
        }
    }
    assert!(line("told.list").contains("an array"), "{}", line("told.list"));
    assert!(line("asked.nowhere").contains("BadNodeIdUnknown"), "{}", line("asked.nowhere"));
    assert!(line("told.strange").contains("no namespace urn:test:none"), "{}", line("told.strange"));

    world.plant.start_and_wait();
    for source in ["told", "asked"] {
        let tag = |name: &str| format!("{source}.{name}");
        world.wait_for_value(&tag("speed"), (Some(1480.5), 192));
        world.wait_for_value(&tag("nowhere"), (None, 0));
        let error = wait_for("what is wrong to be said", SOON, || world.error_of(source));
        let known = ["an array", "BadNodeIdUnknown", "no namespace urn:test:none"];
        assert!(known.iter().any(|known| error.contains(known)), "{error}");
        assert_eq!(world.stored_of(&tag("state"))[0].3.as_deref(), Some("run"));
    }
    server.say("speed 1500.25");
    server.say("count 9");
    for source in ["told", "asked"] {
        world.wait_for_value(&format!("{source}.speed"), (Some(1500.25), 192));
        let count = format!("{source}.count");
        world.wait_for_value(&count, (Some(9.0), 192));
        let stored = world.stored_of(&count);
        // When it was told first; one who asks again hears that it is still so.
        let (time, ..) = stored.iter().find(|(_, value, ..)| *value == Some(9.0)).unwrap();
        assert_eq!(time.with_micros(), "2026-02-22T10:00:00.000000Z");
    }
    server.say("speed 3 UncertainLastUsableValue");
    world.wait_for_value("told.speed", (Some(3.0), 64));
    server.say("speed 4 BadDeviceFailure");
    for source in ["told", "asked"] {
        let tag = format!("{source}.speed");
        wait_for("a bad status", SOON, || {
            world.values_of(&tag).last().is_some_and(|(_, quality)| *quality == 0).then_some(())
        });
    }
    server.say("speed 5");
    world.wait_for_value("told.speed", (Some(5.0), 192));
    wait_for("heartbeats of what does not change", SOON, || (world.values_of("beating.door").len() > 3).then_some(()));
    assert_eq!(world.values_of("told.door"), [(Some(1.0), 192)], "without one it is told once");
    let door = world.stored_of("beating.door");
    assert!(door.iter().all(|(_, value, quality, _)| (*value, *quality) == (Some(1.0), 192)));
    // But for the first, whose time is the device's.
    let beats = door[1..].windows(2).map(|pair| pair[1].0.as_micros() - pair[0].0.as_micros());
    assert!(beats.clone().all(|apart| (900_000..3_000_000).contains(&apart)), "{:?}", beats.collect::<Vec<_>>());

    // Every value between two of the server's messages is kept.
    for value in 100..120 {
        server.say(&format!("speed {value}"));
    }
    world.wait_for_value("told.speed", (Some(119.0), 192));
    let told: Vec<_> = world.values_of("told.speed").into_iter().filter_map(|(value, _)| value).collect();
    let from = told.iter().position(|value| *value == 100.0).unwrap();
    assert_eq!(told[from..], (100..120).map(f64::from).collect::<Vec<_>>());

    // A server that starts again is subscribed to again, and between the two lies a bad reading.
    let port = server.port;
    drop(server);
    for source in ["told", "asked"] {
        world.wait_for_value(&format!("{source}.speed"), (None, 0));
    }
    let _again = self::server(port, None);
    for source in ["told", "asked"] {
        world.wait_for_value(&format!("{source}.speed"), (Some(1480.5), 192));
    }
}

#[test]
fn all_of_many_nodes_come_in_messages_that_a_server_and_we_can_bear() {
    let server = server(0, None);
    let nodes: Vec<_> = (0..1_500)
        .map(|number| (format!("n{number}"), format!("node = \"nsu=urn:test:mill;s=Many.{number}\"")))
        .collect();
    let tags: Vec<_> = nodes.iter().map(|(name, node)| (name.as_str(), node.as_str())).collect();
    let mut world = World::with_sources(&source("many", server.port, "", &tags));
    world.plant.start_and_wait();
    assert_eq!(world.plant.wait_for_readings(1_500), 1_500);
    for number in [0, 499, 500, 1_499] {
        assert_eq!(world.values_of(&format!("many.n{number}")), [(Some(f64::from(number)), 192)]);
    }
    wait_for("the source to be well", SOON, || world.is_up("many"));
}

/// A server's key and certificate, as OPC UA wants them.
fn identity(folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=mill -keyout key.pem -out cert.pem \
        -addext subjectAltName=URI:urn:test:mill:server,IP:127.0.0.1 \
        -addext keyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment \
        -addext extendedKeyUsage=serverAuth,clientAuth
        openssl x509 -in cert.pem -outform der -out cert.der";
    run(Command::new("sh").args(["-e", "-c", script]).current_dir(folder)).good();
    folder.join("cert.der")
}

#[test]
fn a_secured_server_is_talked_to_only_if_it_is_the_one_that_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let [right, wrong] = ["right", "wrong"].map(|name| identity(&folder.path().join(name)));
    let server = server(0, right.parent());
    let world = &mut World::with_sources("");
    std::fs::write(world.plant.root.join("config/mill.password"), format!("{PASSWORD}\n")).unwrap();
    let secured = "security = \"Basic256Sha256\"\nuser = \"plant\"\npassword_file = \"config/mill.password\"";
    let speed = node("speed");
    let with = |keys: &str| source("mill", server.port, keys, &[("speed", speed.as_str())]);
    let said = |world: &World, keys: &str| {
        world.set_sources(&with(keys));
        world.gather_once().concat()
    };
    // Unnamed, and another one: what the server shows can be compared and named.
    let offered = world.plant.root.join("state/collector/opcua/offered-mill.der");
    for keys in [secured.to_owned(), format!("{secured}\nserver_certificate = \"{}\"", wrong.display())] {
        let _ = std::fs::remove_file(&offered);
        let line = said(world, &keys);
        assert!(line.contains(" bad ") && line.contains("server_certificate"), "{line}");
        assert_eq!(std::fs::read(&offered).unwrap(), std::fs::read(&right).unwrap());
    }
    std::fs::copy(&offered, world.plant.root.join("config/mill.der")).unwrap();
    let named = format!("{secured}\nserver_certificate = \"config/mill.der\"");
    let line = said(world, &named);
    assert!(line.contains(" 1480.5 ") && line.contains(" good "), "{line}");
    let own = world.plant.root.join("state/collector/opcua/own.der");
    let mut openssl = Command::new("openssl");
    let shown = run(openssl.args(["x509", "-inform", "der", "-noout", "-text", "-in"]).arg(&own)).good();
    assert!(shown.contains("URI:urn:plantlink:collector") && shown.contains("2048 bit"), "{shown}");
    // One that shows the right certificate, but is not the one whose it is, learns nothing and is not believed.
    let impostor = folder.path().join("impostor");
    std::fs::create_dir_all(&impostor).unwrap();
    std::fs::copy(&right, impostor.join("cert.der")).unwrap();
    std::fs::copy(wrong.with_file_name("key.pem"), impostor.join("key.pem")).unwrap();
    let pretended = self::server(0, Some(&impostor));
    world.set_sources(&source("mill", pretended.port, &named, &[("speed", speed.as_str())]));
    let line = world.gather_once().concat();
    assert!(line.contains(" bad ") && !line.contains("1480.5"), "{line}");
    drop(pretended);
    // It offers nothing else, and lets nobody else in.
    let line = said(world, "");
    assert!(line.contains("Basic256Sha256 (SignAndEncrypt)"), "{line}");
    std::fs::write(world.plant.root.join("config/mill.password"), "wrong\n").unwrap();
    let line = said(world, &named);
    assert!(line.contains("BadUserAccessDenied") || line.contains("BadIdentityToken"), "{line}");

    // While it runs, a password is put right without a start.
    world.plant.start_and_wait();
    wait_for("a refusal to be said", SOON, || world.error_of("mill"));
    std::fs::write(world.plant.root.join("config/mill.password"), PASSWORD).unwrap();
    world.wait_for_value("mill.speed", (Some(1480.5), 192));
    wait_for("the source to be well", SOON, || world.is_up("mill"));
}
