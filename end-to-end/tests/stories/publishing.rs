//! What a publisher asks of `publish`, and what plants get.

use std::path::{Path, PathBuf};
use std::process::Command;

use end_to_end::plant::Plant;
use end_to_end::programs::{Ended, program, run};
use serde_json::Value;

use crate::{KEYS, SQLITE, World};

/// A folder with four programs and an asset, as a build leaves them.
fn build(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let build = folder.join("build");
    std::fs::create_dir_all(build.join("assets")).unwrap();
    for name in ["agent", "collector", "portal", "watchdog"] {
        std::fs::write(build.join(name), format!("#!/bin/sh\necho {name}\n")).unwrap();
        std::fs::set_permissions(build.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(build.join("assets/logo.svg"), "<svg/>").unwrap();
    build
}

fn publish(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = program("publish");
    command.args(arguments).arg("--json").arg("--base").arg(folder.join("build")).arg("--out").arg(folder);
    run(command.arg("--key").arg(KEYS.join("update_private.pem")))
}

fn inspect(package: &Path, arguments: &[&str]) -> Ended {
    let mut command: Command = program("publish");
    run(command.arg("inspect").arg(package).args(arguments))
}

fn manifest(package: &Path) -> Value {
    let public = KEYS.join("update_public.pem");
    let said = inspect(package, &["--json", "--public-key", &public.to_string_lossy()]).good();
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(shown["signature_verified"], true);
    shown["manifest"].clone()
}

#[test]
fn a_complete_version_then_one_made_for_it_with_every_flag() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let build = build(folder.path());
    publish(
        folder.path(),
        &["--version", "1.0.0", "--complete", "--files", "agent", "collector", "portal", "watchdog", "assets"],
    )
    .good();
    let complete = manifest(&folder.path().join("update_v1.0.0.zip"));
    assert_eq!((&complete["complete"], &complete["platform"]), (&Value::from(true), &Value::from("linux-x86_64")));
    assert_eq!(complete["files"].as_array().unwrap().len(), 5);

    std::fs::write(build.join("assets/new.txt"), "new").unwrap();
    std::fs::write(path("notes.md"), "What is new").unwrap();
    for (name, text) in [("0002_a.sql", "SELECT 1"), ("0002_a.sqlite.sql", "SELECT 2"), ("0002_a.down.sql", "SELECT 3")]
    {
        std::fs::write(path(name), text).unwrap();
    }
    let migrations = ["0002_a.sql", "0002_a.sqlite.sql", "0002_a.down.sql"].map(path);
    let said = publish(
        folder.path(),
        &[
            &["--version", "1.1.0-rc.1", "--files", "assets/new.txt", "--remove", "assets/logo.svg", "--onto"][..],
            &[
                &path("update_v1.0.0.zip"),
                "--min-version",
                "1.0.0",
                "--platform",
                "any",
                "--notes-file",
                &path("notes.md"),
            ],
            &["--created", "2026-02-22T10:00:00Z", "--expires", "2030-12-31", "--migrations"],
            &migrations.each_ref().map(String::as_str),
        ]
        .concat(),
    );
    let said: Value = serde_json::from_str(&said.good()).unwrap();
    assert_eq!(said["warnings"], serde_json::json!([]));
    let bound = manifest(&folder.path().join("update_v1.1.0-rc.1.zip"));
    assert_eq!(bound["base"].as_array().unwrap().len(), 1);
    assert!(bound["base"][0].as_str().unwrap().starts_with("1.0.0-"));
    assert_eq!((&bound["remove"][0], &bound["notes"]), (&Value::from("assets/logo.svg"), &Value::from("What is new")));
    assert_eq!((&bound["min_version"], &bound["platform"]), (&Value::from("1.0.0"), &Value::from("any")));
    assert!(bound["expires"].as_str().unwrap().starts_with("2030-12-31T23:59:59"));
    assert_eq!(bound["migrations"].as_array().unwrap().len(), 3);
    assert_eq!(bound["result_tree"].as_str().unwrap().len(), 64);
}

#[test]
fn the_same_inputs_give_the_same_package_wherever_they_lie_and_whenever_they_were_written() {
    let packages: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            let folder = tempfile::tempdir().unwrap();
            build(folder.path());
            let arguments = ["--version", "1.0.0", "--files", "assets", "agent", "--created", "2026-02-22T10:00:01Z"];
            publish(folder.path(), &arguments).good();
            std::fs::read(folder.path().join("update_v1.0.0.zip")).unwrap()
        })
        .collect();
    assert_eq!(packages[0], packages[1]);
}

#[test]
fn what_is_wrong_is_said_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path());
    for (arguments, code, words) in [
        (&["--version", "1.0", "--files", "agent"][..], 2, "no version"),
        (&["--version", "1.0.0"], 2, "nothing to pack"),
        (&["--files", "agent"], 2, "--version"),
        (&["--version", "1.0.0", "--files", "missing"], 1, "missing"),
        (&["--version", "1.0.0", "--files", "../etc/passwd"], 2, "base folder"),
        (&["--version", "1.0.0", "--files", "agent", "--platform", "plan9"], 2, "plan9"),
        (&["--version", "1.0.0", "--files", "agent", "--complete"], 2, "incomplete_version"),
        (&["--version", "1.0.0", "--files", "agent", "--expires", "soon"], 2, "soon"),
        (&["--version", "1.0.0", "--files", "agent", "--onto", "/nowhere"], 1, "/nowhere"),
    ] {
        let refused = publish(folder.path(), arguments);
        assert_eq!(refused.code, Some(code), "{arguments:?}: {}", refused.errors);
        assert!(refused.errors.contains(words) && refused.errors.trim_end().lines().count() == 1, "{}", refused.errors);
    }
    // A key that is for something else.
    let mut command = program("publish");
    command.args(["--version", "1.0.0", "--files", "agent", "--base"]).arg(folder.path().join("build"));
    let refused = run(command.arg("--out").arg(folder.path()).arg("--key").arg(KEYS.join("private.pem")));
    assert!(refused.code == Some(2) && refused.errors.contains("opens sessions"), "{refused:?}");
    let written = std::fs::read_dir(folder.path()).unwrap().flatten();
    assert_eq!(written.filter(|entry| entry.path().extension().is_some()).count(), 0);
}

#[test]
fn a_look_at_a_package_that_is_not_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path());
    publish(folder.path(), &["--version", "1.0.0", "--files", "assets", "--notes", "Нове"]).good();
    let package = folder.path().join("update_v1.0.0.zip");
    let shown = inspect(&package, &[]).good();
    assert!(
        ["1.0.0", "Нове", "assets/logo.svg", "not checked", "unbound"].iter().all(|word| shown.contains(word)),
        "{shown}"
    );
    let other = KEYS.join("public.pem");
    let foreign = inspect(&package, &["--public-key", &other.to_string_lossy()]);
    assert!(foreign.code == Some(76) && foreign.errors.contains("invalid_sig"), "{foreign:?}");
    let mut bytes = std::fs::read(&package).unwrap();
    // The last byte before the directory: the end of the last file.
    let at = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    bytes[at - 1] ^= 0xff;
    std::fs::write(&package, bytes).unwrap();
    assert_eq!(inspect(&package, &[]).code, Some(76));
}

#[test]
fn a_complete_package_of_real_programs_is_taken_whatever_runs() {
    let mut world = World::new(SQLITE);
    world.plant.set("UPDATE_TRIAL_SECONDS", "1");
    world.plant.set("UPDATE_UNBOUND", "refuse");
    world.plant.start_and_wait();
    let running = world.plant.version_directory();
    let pack = |version: &str, more: &[&str]| {
        let mut command = program("publish");
        command
            .args(["--version", version, "--files", "agent", "collector", "portal", "watchdog", "--base"])
            .arg(&running);
        command.arg("--out").arg(world.folder.path()).arg("--key").arg(KEYS.join("update_private.pem"));
        run(command.args(more)).good();
        world.folder.path().join(format!("update_v{version}.zip"))
    };
    let deliver = |package: &Path| world.headquarters.deliver(world.plant.agent_port(), package);
    let unbound = deliver(&pack("0.2.0", &[]));
    assert!(unbound.code == Some(76) && unbound.errors.contains("unbound"), "{unbound:?}");
    deliver(&pack("0.3.0", &["--complete"])).good();
    world.plant.approve_update();
    let line = world.plant.wait_for_attempt(1, std::time::Duration::from_secs(90));
    assert_eq!(line["status"], "ok", "{line}");
    let plant: &Plant = &world.plant;
    assert!(plant.version_directory().join("version.txt").is_file());
}
