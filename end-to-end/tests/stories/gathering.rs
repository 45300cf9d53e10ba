//! What the stories about devices share: `sources.toml`, one gather, and what became of a tag.

use std::time::Duration;

use end_to_end::portal::ask;
use end_to_end::programs::run;
use end_to_end::wait_for;
use protocol::Timestamp;
use readings::Span;
use updater::database::ActiveDatabase;

use crate::{SQLITE, World};

pub const SOON: Duration = Duration::from_secs(30);

/// Two hundred tags, twenty times a second.
pub const FAST: &str = "[[simulator]]\nname = \"fast\"\ntags = 200\nperiod_seconds = 0.05\n";

/// What is stored of a tag: time, value, quality, text.
pub type Stored = Vec<(Timestamp, Option<f64>, u8, Option<String>)>;

impl World {
    pub fn with_sources(text: &str) -> Self {
        let world = Self::new(SQLITE);
        world.set_sources(text);
        world
    }

    pub fn set_sources(&self, text: &str) {
        std::fs::write(self.plant.root.join("config/sources.toml"), text).unwrap();
    }

    /// `collector --once`, a line for each tag.
    pub fn gather_once(&self) -> Vec<String> {
        let mut collector = self.plant.command("collector");
        let ended = run(collector.arg("--root").arg(&self.plant.root).arg("--once"));
        // The second where nothing at all could be read.
        assert!(matches!(ended.code, Some(0 | 69)), "{ended:?}");
        ended.output.lines().filter(|line| line.contains('.')).map(str::to_owned).collect()
    }

    pub fn stored_of(&self, tag: &str) -> Stored {
        let root = self.plant.install_root();
        let mut store = ActiveDatabase::of(&root).unwrap().open(root.path()).unwrap();
        let head = store.head().unwrap();
        let mut stored = Stored::new();
        let mut each = |row: &readings::Row<'_>| {
            if row.tag == tag {
                stored.push((row.time, row.value, row.quality.0, row.text.map(str::to_owned)));
            }
        };
        store.read(Span::all(head.first_seq, head.last_seq), &mut each).unwrap();
        stored
    }

    /// Tags that have a newest value.
    pub fn live(&self) -> Vec<String> {
        let address = self.plant.address("collector");
        let live = ask(&address, "GET", "/live", "", "").unwrap().json();
        live["tags"].as_array().unwrap().iter().map(|tag| tag["tag"].as_str().unwrap().to_owned()).collect()
    }

    /// What language the portal's first page says it is in.
    pub fn portal_language(&self) -> Option<String> {
        let portal = self.plant.status()?.children.into_iter().find(|child| child.name == "portal")?;
        let page = ask(&portal.address?, "GET", "/", "", "").ok()?.body;
        page.split_once("<html lang=\"")?.1.split('"').next().map(str::to_owned)
    }

    pub fn is_up(&self, source: &str) -> Option<()> {
        self.plant.status()?.collected?.sources.get(source)?.up.then_some(())
    }

    /// What is said to be wrong with a source.
    pub fn error_of(&self, source: &str) -> Option<String> {
        self.plant.status()?.collected?.sources.get(source)?.error.clone()
    }

    pub fn values_of(&self, tag: &str) -> Vec<(Option<f64>, u8)> {
        self.stored_of(tag).into_iter().map(|(_, value, quality, _)| (value, quality)).collect()
    }

    pub fn wait_for_value(&self, tag: &str, value: (Option<f64>, u8)) {
        wait_for(&format!("{value:?} of {tag}"), SOON, || (self.values_of(tag).last() == Some(&value)).then_some(()));
    }
}
