//! The keys that sign packages are changed on a running plant.

use std::path::{Path, PathBuf};

use end_to_end::plant::PIN;
use end_to_end::programs::{Ended, program, run};
use serde_json::Value;

use crate::updating::ATTEMPT;
use crate::{KEYS, SQLITE, World};

fn keygen(folder: &Path) -> PathBuf {
    run(program("keygen").arg("--out").arg(folder)).good();
    folder.to_owned()
}

impl World {
    /// A package of keys: all of `trust` count from then on.
    fn keys_package(&self, version: u64, trust: &[&Path], signers: &[&Path], more: &[&str]) -> PathBuf {
        let mut publish = program("publish");
        publish.args(["keys", "--json", "--keys-version", &version.to_string(), "--out"]).arg(self.folder.path());
        publish.arg("--trust").args(trust.iter().map(|keys| keys.join("update_public.pem")));
        publish.arg("--key").args(signers.iter().map(|keys| keys.join("update_private.pem")));
        run(publish.args(more)).good();
        self.folder.path().join(format!("update_v0.0.0-keys.{version}.zip"))
    }

    fn try_to_deliver(&self, package: &Path) -> Ended {
        self.headquarters.deliver(self.plant.agent_port(), package)
    }

    fn signed_with(&self, version: &str, keys: &Path) -> PathBuf {
        let mut headquarters = self.headquarters.clone();
        headquarters.keys = keys.to_owned();
        self.release(version).publish(&headquarters)
    }
}

#[test]
fn keys_are_changed_by_those_who_hold_the_old_ones_and_the_new_ones_and_by_the_operator() {
    let world = World::on_short_trial(SQLITE);
    let old: &Path = &KEYS;
    let new = keygen(&world.folder.path().join("new-keys"));
    world.deliver(&world.signed_with("0.2.0", old));

    let stolen = world.try_to_deliver(&world.keys_package(2, &[&new], &[&new], &[]));
    assert!(stolen.code != Some(0) && stolen.output.contains("invalid_sig"), "{stolen:?}");
    let alone = world.try_to_deliver(&world.keys_package(2, &[&new], &[old], &[]));
    assert!(alone.code != Some(0) && alone.output.contains("not_enough_signatures"), "{alone:?}");
    let early = world.try_to_deliver(&world.keys_package(3, &[&new], &[old, &new], &[]));
    assert!(early.code != Some(0) && early.output.contains("keys_version"), "{early:?}");
    assert_eq!(world.plant.update_status(PIN).json()["pending_version"], "0.2.0", "nothing has changed");

    // Behind the package of keys the one of programs waits on.
    let rotation = world.keys_package(2, &[&new], &[old, &new], &["--notes", "The old key is retired."]);
    world.deliver(&rotation);
    let behind = world.signed_with("0.2.1", old);
    world.deliver(&behind);
    let shown = world.plant.update_status(PIN).json();
    assert_eq!(shown["pending_version"], "0.0.0-keys.2", "{shown}");
    assert_eq!((&shown["keys"]["version"], &shown["keys"]["required"]), (&Value::from(2), &Value::from(1)));
    assert_eq!(shown["keys"]["removed"].as_array().unwrap().len(), 1, "{shown}");
    world.plant.approve_update();
    let line = world.plant.wait_for_attempt(1, ATTEMPT);
    assert_eq!(line["status"], "ok", "{line}");

    // Judged again, what waited is signed by nobody who counts.
    let no_more = end_to_end::wait_for("an end to what the old key has signed", ATTEMPT, || {
        Some(world.plant.update_status(PIN).json()).filter(|status| status["state"] == "failed")
    });
    assert!(no_more["error"].as_str().unwrap().contains("no longer taken"), "{no_more}");
    // Signed by one who does it is the same package, and waits.
    run(program("publish").arg("sign").arg(&behind).arg("--key").arg(new.join("update_private.pem"))).good();
    world.deliver(&behind);
    let waits = world.plant.update_status(PIN).json();
    assert_eq!((&waits["state"], &waits["error"]), (&Value::from("waiting"), &Value::Null), "{waits}");
    assert_eq!(world.plant.boot_record().keys_version, 2);
    let retired = world.try_to_deliver(&world.signed_with("0.2.2", old));
    assert!(retired.code != Some(0) && retired.output.contains("invalid_sig"), "{retired:?}");
    let again = world.try_to_deliver(&rotation);
    assert!(again.code != Some(0) && again.output.contains("keys_version"), "{again:?}");
    world.deliver(&world.signed_with("0.3.0", &new));
    world.plant.approve_update();
    assert_eq!(world.plant.wait_for_attempt(2, ATTEMPT)["status"], "ok");

    // Whoever removes the set does not choose whom to trust.
    let set = world.plant.root.join("state/update_keys.json");
    let kept = std::fs::read(&set).unwrap();
    std::fs::remove_file(&set).unwrap();
    for keys in [old, &new] {
        let refused = world.try_to_deliver(&world.signed_with("0.4.0", keys));
        assert!(refused.code == Some(75) && refused.output.contains("update_keys.json"), "{refused:?}");
    }
    std::fs::write(&set, kept).unwrap();

    // The way out of a version that nothing could follow.
    world.deliver(&world.signed_with("999999.0.0", &new));
    world.plant.approve_update();
    assert_eq!(world.plant.wait_for_attempt(3, ATTEMPT)["status"], "ok");
    let stuck = world.try_to_deliver(&world.signed_with("0.5.0", &new));
    assert!(stuck.code != Some(0) && stuck.output.contains("older_version"), "{stuck:?}");
    world.deliver(&world.keys_package(3, &[&new], &[&new], &["--floor", "0.5.0"]));
    assert_eq!(world.plant.update_status(PIN).json()["keys"]["floor"], "0.5.0");
    world.plant.approve_update();
    assert_eq!(world.plant.wait_for_attempt(4, ATTEMPT)["status"], "ok");
    world.deliver(&world.signed_with("0.5.0", &new));
    world.plant.approve_update();
    assert_eq!(world.plant.wait_for_attempt(5, ATTEMPT)["status"], "ok");
    assert_eq!(world.plant.status().unwrap().version, "0.5.0");
    world.assert_goes_on();
}

#[test]
fn a_key_that_opens_sessions_never_signs_a_package() {
    let world = World::new(SQLITE);
    let keys = keygen(&world.folder.path().join("one-key-for-all"));
    for half in ["private", "public"] {
        std::fs::copy(keys.join(format!("{half}.pem")), keys.join(format!("update_{half}.pem"))).unwrap();
    }
    std::fs::copy(keys.join("public.pem"), world.plant.root.join("config/update_public.pem")).unwrap();
    std::fs::copy(keys.join("public.pem"), world.plant.root.join("config/server_public.pem")).unwrap();
    let checked = run(world.plant.command("watchdog").arg("check-config").arg("--root").arg(&world.plant.root));
    assert!(checked.code == Some(78) && checked.output.contains("opens sessions"), "{checked:?}");
}
