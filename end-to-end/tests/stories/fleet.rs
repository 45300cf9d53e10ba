//! Many plants in one call.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use end_to_end::programs::{program, run};
use serde_json::Value;

use crate::{KEYS, SQLITE, World};

fn entry(text: &mut String, client_id: &str, port: u16) {
    write!(text, "[[plant]]\nclient_id = \"{client_id}\"\nhost = \"127.0.0.1\"\nport = {port}\n\n").unwrap();
}

fn fleet(file: &Path, data: &Path) -> Command {
    let mut command = program("sync_client");
    command.arg("--fleet").arg(file).arg("--key").arg(KEYS.join("private.pem")).arg("--data-dir").arg(data);
    command
}

fn lines(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Two plants that run, one that does not, and one that trusts other keys.
struct Fleet {
    worlds: [World; 3],
    file: PathBuf,
    data: PathBuf,
}

impl Fleet {
    fn new() -> Self {
        let worlds = [(); 3].map(|()| World::running(SQLITE));
        let keys = worlds[2].folder.path().join("foreign-keys");
        run(program("keygen").arg("--out").arg(&keys)).good();
        let folder = worlds[0].folder.path();
        let (file, data) = (folder.join("fleet.toml"), folder.join("fleet_storage"));
        Self { worlds, file, data }
    }

    fn write(&self) {
        let mut text = String::new();
        entry(&mut text, "north", self.worlds[0].plant.agent_port());
        entry(&mut text, "gone", 1);
        entry(&mut text, "south", self.worlds[1].plant.agent_port());
        entry(&mut text, "foreign", self.worlds[2].plant.agent_port());
        std::fs::write(&self.file, text).unwrap();
    }
}

#[test]
fn a_fleet_is_pulled_at_once_and_the_worst_of_its_plants_is_named() {
    let mut fleet_of = Fleet::new();
    let foreign = fleet_of.worlds[2].folder.path().join("foreign-keys/public.pem");
    std::fs::copy(foreign, fleet_of.worlds[2].plant.root.join("config/server_public.pem")).unwrap();
    fleet_of.worlds[2].plant.stop();
    fleet_of.worlds[2].plant.start_and_wait();
    fleet_of.write();
    for world in &fleet_of.worlds[..2] {
        world.plant.wait_for_readings(20);
    }
    let ended = run(fleet(&fleet_of.file, &fleet_of.data).arg("--json"));
    assert_eq!(ended.code, Some(77), "{ended:?}");
    assert!(ended.errors.contains("2 of 4 plants failed: gone, foreign; the worst is foreign"), "{}", ended.errors);
    let said = lines(&ended.output);
    let of = |id: &str| said.iter().find(|plant| plant["client_id"] == id).unwrap();
    assert_eq!(said.len(), 4);
    for id in ["north", "south"] {
        assert!(of(id)["record_count"].as_u64().unwrap() >= 20 && of(id)["status"] == "ok", "{said:?}");
    }
    assert_eq!((&of("gone")["exit_code"], &of("foreign")["exit_code"]), (&69.into(), &77.into()));
    run(program("sync_client").arg("verify").arg(&fleet_of.data)).good();

    // The rest of it goes on where it was; for people there is a table with a row for each.
    let table = run(fleet(&fleet_of.file, &fleet_of.data).args(["--parallel", "1", "--only", "north", "south"])).good();
    assert!(table.contains("north") && table.contains("south") && !table.contains("gone"), "{table}");
    let north = &fleet_of.worlds[0];
    let headquarters = end_to_end::headquarters::Headquarters { keys: KEYS.clone(), data: fleet_of.data.clone() };
    let archives: Vec<PathBuf> =
        std::fs::read_dir(headquarters.data.join("north")).unwrap().flatten().map(|entry| entry.path()).collect();
    let mut archives: Vec<PathBuf> =
        archives.into_iter().filter(|path| path.extension().is_some_and(|it| it == "gz")).collect();
    archives.sort();
    assert!(end_to_end::exactly_once::check(&archives, &north.plant.install_root()).unwrap() >= 20);

    // How they are, without pulling.
    let ended = run(fleet(&fleet_of.file, &fleet_of.data).args(["--status", "--json"]));
    let said = lines(&ended.output);
    let plant = said.iter().find(|plant| plant["client_id"] == "north").unwrap();
    assert_eq!(plant["plant"]["version"], env!("CARGO_PKG_VERSION"), "{plant}");
    assert_eq!(plant["plant"]["services"]["collector"], "running", "{plant}");
    let table = run(fleet(&fleet_of.file, &fleet_of.data).arg("--status"));
    assert!(table.output.contains("all run") && table.code == Some(77), "{table:?}");
}

#[test]
fn a_mistake_in_the_fleet_file_is_named_with_its_line_and_nothing_is_pulled() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.toml");
    let mut text = String::new();
    entry(&mut text, "north", 1);
    entry(&mut text, "north", 2);
    std::fs::write(&file, text).unwrap();
    let ended = run(&mut fleet(&file, &folder.path().join("data")));
    assert!(ended.code == Some(78) && ended.errors.contains("fleet.toml:6: client_id `north`"), "{ended:?}");
    assert!(!folder.path().join("data").exists());
}
