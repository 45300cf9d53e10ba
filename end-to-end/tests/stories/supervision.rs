//! The watchdog and its children.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end::programs::run;
use end_to_end::wait_for;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::gathering::SOON;
use crate::{SQLITE, World};

fn pids(world: &World) -> Vec<Pid> {
    ["collector", "agent", "portal"].map(|child| world.plant.pid(child)).into()
}

fn wait_until_gone(pids: &[Pid]) {
    wait_for("the children to go", Duration::from_secs(15), || {
        pids.iter().all(|pid| test_kill_process(*pid).is_err()).then_some(())
    });
}

#[test]
fn when_the_launcher_is_killed_its_children_go_and_the_next_one_starts_clean() {
    let mut world = World::running(SQLITE);
    world.plant.wait_for_readings(10);
    let children = pids(&world);
    world.plant.kill_launcher();
    wait_until_gone(&children);
    let ended = run(world.plant.command("watchdog").args(["status", "--root"]).arg(&world.plant.root));
    assert_eq!(ended.code, Some(69));
    world.plant.start_and_wait();
    let stored = world.plant.stored();
    world.plant.wait_for_readings(stored + 10);
    world.headquarters.pull(world.plant.agent_port());
    world.assert_exactly_once();
}

#[test]
fn a_stop_ends_every_process() {
    let mut world = World::running(SQLITE);
    let children = pids(&world);
    world.plant.stop();
    for child in children {
        assert!(test_kill_process(child).is_err(), "a child is left");
    }
}

#[test]
fn two_watchdogs_on_one_root_are_refused() {
    let world = World::running(SQLITE);
    let second = run(world.plant.command("watchdog").args(["run", "--root"]).arg(&world.plant.root));
    assert_eq!(second.code, Some(1));
    assert!(second.errors.contains("another watchdog runs"), "{}", second.errors);
}

#[test]
fn a_hung_child_is_replaced_within_thirty_seconds() {
    let world = World::running(SQLITE);
    let hung = world.plant.pid("portal");
    let started = Instant::now();
    kill_process(hung, Signal::STOP).unwrap();
    wait_for("another portal", Duration::from_secs(30), || {
        let portal = world.plant.status()?.children.into_iter().find(|child| child.name == "portal")?;
        (portal.pid.is_some_and(|pid| pid.cast_signed() != hung.as_raw_nonzero().get()) && portal.address.is_some())
            .then_some(())
    });
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(test_kill_process(hung).is_err());
}

#[test]
fn a_program_that_keeps_ending_is_tried_at_once_when_its_configuration_is_mended() {
    let world = World::running(SQLITE);
    let file = world.plant.root.join("config/config.txt");
    let good = std::fs::read_to_string(&file).unwrap();
    // Another machine's address: no mistake that could be seen before it is tried.
    std::fs::write(&file, good.replace("PORTAL_BIND = 127.0.0.1", "PORTAL_BIND = 198.51.100.7")).unwrap();
    let portal = || world.plant.status()?.children.into_iter().find(|child| child.name == "portal");
    wait_for("a crash loop", Duration::from_secs(120), || (portal()?.state.word() == "crash_loop").then_some(()));
    let asked = Instant::now();
    std::fs::write(&file, &good).unwrap();
    wait_for("the portal to be back", SOON, || (portal()?.state.word() == "running").then_some(()));
    assert!(asked.elapsed() < Duration::from_secs(60), "not after the five minutes of a crash loop");
}

#[test]
fn restart_flag_restarts_everything_once() {
    let world = World::running(SQLITE);
    let before = pids(&world);
    std::fs::write(world.plant.root.join("restart.flag"), "").unwrap();
    wait_for("all children to be others", Duration::from_secs(30), || {
        let status = world.plant.status()?;
        let others = |(child, before): (&protocol::control::ChildStatus, &Pid)| {
            child.pid.is_some_and(|pid| pid.cast_signed() != before.as_raw_nonzero().get())
                && child.state.word() == "running"
        };
        status.children.iter().zip(&before).all(others).then_some(())
    });
    assert!(!world.plant.root.join("restart.flag").exists());
    let status = world.plant.status().unwrap();
    assert!(status.children.iter().all(|child| child.restarts == 1), "{status:?}");
}

#[test]
fn what_is_done_to_a_plant_on_site_is_told_among_its_events() {
    let world = World::running(SQLITE);
    let config = |name: &str| world.plant.root.join("config").join(name);
    let happened = |what: &str, kind: &str, subject: &str, detail: &str| {
        let is = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            text("kind") == kind && text("subject") == subject && text("detail").contains(detail)
        };
        wait_for(what, Duration::from_secs(30), || {
            let events = std::fs::read_to_string(world.plant.root.join("logs/events.jsonl")).ok()?;
            // The last line may be half written.
            let whole = &events[..=events.rfind('\n')?];
            whole.lines().any(is).then_some(())
        });
    };
    let good = std::fs::read_to_string(config("sources.toml")).unwrap();
    let silent = "\n[[modbus]]\nname = \"press\"\naddress = \"127.0.0.1:1\"\n[[modbus.group]]\nperiod_seconds = 0.1\n\
        [[modbus.group.tag]]\nname = \"oil\"\naddress = 1\n";
    std::fs::write(config("sources.toml"), good.clone() + silent).unwrap();
    happened("a device that does not answer", "source_silent", "press", "");
    std::fs::write(config("sources.toml"), good.clone() + "[[modbus]]\n").unwrap();
    happened("the mistake", "configuration_mistake", "", "sources.toml");
    std::fs::write(config("sources.toml"), good).unwrap();
    happened("the device to be gone", "source_gone", "press", "");
    run(world.plant.command("watchdog").args(["reset-pin", "--pin", "13579", "--root"]).arg(&world.plant.root)).good();
    happened("the PIN to be changed", "pin_changed", "on_site", "");
    std::fs::write(world.plant.root.join("restart.flag"), "").unwrap();
    happened("the restart", "restart_asked", "restart.flag", "");
    world.plant.wait_until_running();
    let (key, away) = (config("update_public.pem"), config("away.pem"));
    std::fs::rename(&key, &away).unwrap();
    let is_told = |told: bool| {
        let problems = world.plant.status()?.problems;
        (problems.iter().any(|problem| problem.contains("no update is taken")) == told).then_some(())
    };
    wait_for("the missing key to be told", Duration::from_secs(30), || is_told(true));
    std::fs::rename(&away, &key).unwrap();
    wait_for("the key to be back", Duration::from_secs(30), || is_told(false));
}

#[test]
fn bad_sources_stop_the_collector_alone_until_they_are_mended() {
    let mut world = World::new(SQLITE);
    let sources = world.plant.root.join("config/sources.toml");
    let good = std::fs::read_to_string(&sources).unwrap();
    std::fs::write(&sources, "[[simulator]]\nname = \"line1\"\ntags = \"many\"\n").unwrap();
    world.plant.start();
    let status = wait_for("agent and portal without a collector", Duration::from_secs(30), || {
        let status = world.plant.status()?;
        let state =
            |name: &str| status.children.iter().find(|child| child.name == name).map(|child| child.state.word());
        (state("collector") == Some("bad_configuration") && state("portal") == Some("running"))
            .then_some(status.clone())
    });
    let named = |problem: &String| problem.contains("sources.toml:3: tags: write a whole number");
    assert!(status.problems.iter().any(named), "{:?}", status.problems);
    let log = std::fs::read_to_string(world.plant.root.join("logs/collector.log")).unwrap();
    assert!(log.contains("sources.toml:3:"), "{log}");
    std::fs::write(&sources, good).unwrap();
    world.plant.wait_until_running();
}

#[test]
fn a_changed_source_is_taken_up_and_no_other_is_disturbed() {
    let simulator =
        |name: &str, tags: u32| format!("[[simulator]]\nname = \"{name}\"\ntags = {tags}\nperiod_seconds = 0.1\n");
    let mut world = World::with_sources(
        &(["grows", "goes"].map(|name| simulator(name, 1)).concat()
            + &simulator("shrinks", 3)
            + &simulator("stays", 1)),
    );
    world.plant.start_and_wait();
    let collector = world.plant.pid("collector");
    world.plant.wait_for_readings(30);
    world.set_sources(
        &(simulator("stays", 1) + &simulator("grows", 3) + &simulator("shrinks", 1) + &simulator("comes", 2)),
    );
    let sources = || world.plant.status()?.collected.map(|collected| collected.sources);
    wait_for("the changed sources", SOON, || {
        let sources = sources()?;
        let named: Vec<_> = sources.iter().map(|(name, source)| (name.as_str(), source.tags, source.up)).collect();
        (named == [("comes", 2, true), ("grows", 3, true), ("shrinks", 1, true), ("stays", 1, true)]).then_some(())
    });
    let live = |tag: &str| world.live().iter().any(|other| other == tag);
    wait_for("what is live now", SOON, || {
        ["comes.station01.pressure", "grows.station01.speed", "shrinks.station01.temperature"]
            .into_iter()
            .all(live)
            .then_some(())
    });
    assert!(!live("goes.station01.temperature"), "a source that is gone has no values");
    assert!(!live("shrinks.station01.pressure"), "nor has a tag that is gone");

    world.set_sources("[[simulator]]\nname = \"stays\"\ntags = \"many\"\n");
    wait_for("the mistake to be shown", SOON, || {
        let problems = world.plant.status()?.problems;
        problems.iter().any(|problem| problem.contains("sources.toml:3: ")).then_some(())
    });
    let before = world.plant.stored();
    world.plant.wait_for_readings(before + 30);
    world.set_sources(&simulator("stays", 1));
    wait_for("the mended file", SOON, || {
        (sources()?.len() == 1 && world.plant.status()?.problems.is_empty()).then_some(())
    });

    assert_eq!(world.plant.pid("collector"), collector, "nothing was restarted");
    let stays = world.stored_of("stays.station01.temperature");
    let longest = stays.windows(2).map(|pair| pair[1].0.since(pair[0].0)).max().unwrap();
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[test]
fn changed_settings_restart_only_what_they_concern_and_a_mistake_in_them_stops_nothing() {
    let mut world = World::running(SQLITE);
    let before = pids(&world);
    let file = world.plant.root.join("config/config.txt");
    let english = std::fs::read_to_string(&file).unwrap();
    let ukrainian = english.replace("LANGUAGE = en", "LANGUAGE = uk");
    assert_ne!(english, ukrainian);
    std::fs::write(&file, &ukrainian).unwrap();
    wait_for("a Ukrainian portal", SOON, || world.portal_language().filter(|language| language == "uk"));
    let after = pids(&world);
    assert_eq!((before[0], before[1]), (after[0], after[1]), "collector and agent are not concerned");
    assert_ne!(before[2], after[2]);

    std::fs::write(&file, ukrainian.clone() + "COLOUR = red\n").unwrap();
    let names_it = |world: &World| {
        let problems = world.plant.status()?.problems;
        problems.iter().any(|problem| problem.contains("unknown key COLOUR")).then_some(())
    };
    wait_for("the mistake to be shown", SOON, || names_it(&world));
    assert_eq!(pids(&world), after);
    kill_process(after[2], Signal::KILL).unwrap();
    wait_for("another portal", SOON, || world.portal_language().filter(|language| language == "uk"));
    kill_process(world.plant.supervisor(), Signal::KILL).unwrap();
    wait_until_gone(&after[..2]);
    world.plant.wait_until_running();
    wait_for("the mistake to be shown", SOON, || names_it(&world));
    assert_eq!(world.portal_language().as_deref(), Some("uk"));

    std::fs::write(&file, &english).unwrap();
    wait_for("an English portal", SOON, || world.portal_language().filter(|language| language == "en"));
    assert_eq!(world.plant.wait_until_running().problems, [""; 0]);

    world.plant.stop();
    std::fs::write(&file, english + "COLOUR = red\n").unwrap();
    let refused = run(world.plant.command("watchdog").args(["run", "--root"]).arg(&world.plant.root));
    assert_eq!(refused.code, Some(78), "at its start there is nothing from before");
}

#[test]
fn without_a_licence_only_the_collector_waits_until_one_comes() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(SQLITE);
    world.plant.set("LICENSE_FILE", "license.dat");
    world.plant.start();
    wait_for("an unlicensed plant that HQ can get into", Duration::from_secs(30), || {
        let status = world.plant.status()?;
        let state =
            |name: &str| status.children.iter().find(|child| child.name == name).map(|child| child.state.word());
        let waits = state("collector") == Some("unlicensed") && state("agent") == Some("running");
        (waits && status.problems.iter().any(|problem| problem.contains("licence"))).then_some(())
    });
    let license = folder.path().join("license.dat");
    world.headquarters.license(&license);
    std::fs::rename(license, world.plant.root.join("license.dat")).unwrap();
    world.plant.wait_until_running();
}

#[test]
fn a_renewed_certificate_is_taken_up_without_a_restart() {
    let world = World::running(SQLITE);
    let port = world.plant.agent_port();
    world.headquarters.pull(port);
    let agent = world.plant.root.join("agent");
    // On the same key, as openssl renews one.
    let renewed = world.folder.path().join("renewed.pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-new", "-days", "365", "-subj", "/CN=renewed", "-key"]).arg(agent.join("key.pem"));
    run(openssl.arg("-out").arg(&renewed)).good();
    std::fs::rename(&renewed, agent.join("cert.pem")).unwrap();
    wait_for("the renewed certificate", Duration::from_secs(15), || {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &format!("127.0.0.1:{port}")]).stdin(Stdio::null());
        run(&mut client).output.contains("CN = renewed").then_some(())
    });
    world.headquarters.pull(port);
    assert_eq!(world.plant.status().unwrap().children[1].restarts, 0);
}

#[test]
fn the_unit_is_sound_and_lets_the_watchdog_do_no_more_than_its_work() {
    let world = World::new(SQLITE);
    let unit = |more: &[&str]| {
        let mut watchdog = world.plant.command("watchdog");
        watchdog.args(["service", "install", "--print", "--root"]).arg(&world.plant.root);
        run(watchdog.args(more)).good()
    };
    for (name, more) in [("one-user", &[][..]), ("users", &["--users", "root"])] {
        let file = world.folder.path().join(format!("plantlink-{name}.service"));
        std::fs::write(&file, unit(more)).unwrap();
        let verified = run(Command::new("systemd-analyze").arg("verify").arg(&file));
        assert!(verified.code == Some(0) && verified.errors.is_empty(), "{verified:?}");
        let judged = run(Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(&file));
        let level = judged.output.lines().last().unwrap().split_whitespace().find_map(|word| word.parse::<f64>().ok());
        assert!(level.is_some_and(|level| level <= 3.0), "{}", judged.output);
    }
}

#[test]
fn the_service_manager_is_told_when_the_plant_is_up_and_that_the_launcher_lives() {
    let world = World::new(SQLITE);
    let place = world.folder.path().join("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut watchdog = world.plant.command("watchdog");
    watchdog.arg("run").arg("--root").arg(&world.plant.root).env("NOTIFY_SOCKET", &place);
    watchdog.env("WATCHDOG_USEC", "600000").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut watchdog = watchdog.spawn().unwrap();
    let told = || {
        let mut state = [0; 64];
        let length = manager.recv(&mut state).unwrap();
        String::from_utf8_lossy(&state[..length]).into_owned()
    };
    while told() != "READY=1" {}
    assert!(world.plant.status().is_some_and(|status| !status.children.is_empty()));
    assert_eq!([told(), told(), told()], ["WATCHDOG=1"; 3]);
    kill_process(Pid::from_child(&watchdog), Signal::TERM).unwrap();
    while told() != "STOPPING=1" {}
    assert!(watchdog.wait().unwrap().success());
}
