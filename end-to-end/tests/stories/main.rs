//! Stories of the whole product: the real executables, a real PostgreSQL, real kills.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a story that goes wrong says where")]

mod bad_input;
mod browser;
mod clocks;
mod confinement;
mod crashes;
mod database_crashes;
mod debian;
mod door;
mod exactness;
mod fleet;
mod full_disk;
mod gathering;
mod keys;
mod modbus;
mod moving;
mod mqtt;
mod opcua;
mod outages;
mod plain_client;
mod power_cuts;
mod publishing;
mod pulling;
mod restoring;
mod retention;
mod supervision;
mod trials;
mod updating;
mod windows;
mod windows_service;

use std::path::PathBuf;
use std::sync::LazyLock;

use end_to_end::headquarters::Headquarters;
use end_to_end::plant::Plant;
use end_to_end::programs::{self, program, run};
use private_postgres::{Options, PrivatePostgres};

/// One server for all stories that do not harm it; each has a database of its own.
static SERVER: LazyLock<PrivatePostgres> =
    LazyLock::new(|| PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}")));

/// Made once; key generation takes longer than a story.
static KEYS: LazyLock<PathBuf> = LazyLock::new(|| {
    programs::build().unwrap_or_else(|error| panic!("{error}"));
    let keys = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("keys");
    Headquarters::new(&keys, &keys);
    keys
});

const SQLITE: &str = "sqlite:data/plant.db";

/// A plant, its headquarters, and the folder that both go with.
struct World {
    plant: Plant,
    headquarters: Headquarters,
    folder: tempfile::TempDir,
}

impl World {
    /// A plant of ten simulated tags, not yet started.
    fn new(database: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let headquarters = Headquarters::new(&KEYS, &folder.path().join("data_storage"));
        let plant = Plant::init(&folder.path().join("plant"), &headquarters, database, 10, None);
        Self { plant, headquarters, folder }
    }

    fn running(database: &str) -> Self {
        let mut world = Self::new(database);
        world.plant.start_and_wait();
        world
    }

    /// With a key of its own, that the plant trusts as well.
    fn second_headquarters(&self) -> Headquarters {
        let keys = self.folder.path().join("other-keys");
        run(program("keygen").arg("--out").arg(&keys)).good();
        let trusted = self.plant.root.join("config/server_public.pem");
        let both = [std::fs::read(&trusted).unwrap(), std::fs::read(keys.join("public.pem")).unwrap()].concat();
        std::fs::write(&trusted, both).unwrap();
        Headquarters { keys, data: self.folder.path().join("other_storage") }
    }

    /// Every reading pulled so far is what the plant stored, once.
    fn assert_exactly_once(&self) -> u64 {
        let archives = self.headquarters.archives();
        let checked = end_to_end::exactly_once::check(&archives, &self.plant.install_root());
        checked.unwrap_or_else(|error| panic!("{error}"))
    }
}
