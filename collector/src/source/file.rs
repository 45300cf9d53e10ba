//! `sources.toml` while it is in use.

use std::path::PathBuf;
use std::time::Duration;

use config::{InstallRoot, Mistakes, Sources};
use durable::{Stamp, stamp};

const LOOK_EVERY: Duration = Duration::from_secs(1);

pub struct SourcesFile {
    path: PathBuf,
    /// What was taken up last.
    taken: Sources,
    /// Of the file that was last read. `None` at first: what was written while it was read for the first time is not missed.
    read: Option<Stamp>,
    seen: Option<Stamp>,
}

impl SourcesFile {
    /// Where `sources` come from.
    pub fn new(root: &InstallRoot, sources: &Sources) -> Self {
        Self { path: root.sources_file(), taken: sources.clone(), read: None, seen: None }
    }

    /// Waits for the file to have changed and to rest: one that still changes is being written. `None`: it says what it
    /// said.
    pub async fn changed(&mut self) -> Result<Option<Sources>, Mistakes> {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Some(stamp(&self.path));
            let rests = now == self.seen;
            self.seen = now;
            if rests && now != self.read {
                self.read = now;
                let sources = Sources::read(&self.path)?;
                let is_new = sources != self.taken;
                self.taken.clone_from(&sources);
                return Ok(is_new.then_some(sources));
            }
        }
    }
}
