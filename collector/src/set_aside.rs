//! Readings that the database does not take although it takes others: put aside in files, so that what comes behind them
//! is not kept waiting.
//!
//! A file, `state/collector/set_aside/<position>.jsonl`, is complete before the rest of its batch is stored, and of the
//! same name when that is done again: a kill in between neither loses a reading nor leaves it twice. `collector import`
//! takes the files once the cause is mended; the engineer deletes them.

use std::path::PathBuf;

use config::InstallRoot;
use durable::Access;
use protocol::export::Gap;
use readings::{Batch, Reading, Row, Store, StoreError, write_line};

/// Of the gap of which HQ is told.
const REASON: &str = "refused_by_database";
/// A database that refuses one thing after the other needs a person; until then the rest is kept in the spool.
const MOST_FILES: usize = 1_000;

pub struct SetAside {
    folder: PathBuf,
    files: usize,
    readings: u64,
}

/// A batch without what the database refuses.
pub struct Separated {
    pub readings: Vec<Reading>,
    pub gaps: Vec<Gap>,
}

impl SetAside {
    pub fn of(root: &InstallRoot) -> Self {
        let mut set_aside = Self { folder: root.collector_state().join("set_aside"), files: 0, readings: 0 };
        set_aside.count();
        set_aside
    }

    /// How many are in the files.
    pub fn readings(&self) -> u64 {
        self.readings
    }

    /// Whether the engineer has taken files away since.
    pub fn has_become_less(&mut self) -> bool {
        if self.files == 0 || self.listed().count() == self.files {
            return false;
        }
        self.count();
        true
    }

    /// Puts aside what of a batch the database refuses. An error if it is not these values that it minds, or if they cannot
    /// be put aside; then all of it stays where it is.
    pub fn separate(
        &mut self,
        store: &mut dyn Store,
        batch: &Batch<'_>,
        refusal: StoreError,
    ) -> Result<Separated, StoreError> {
        // It takes what nobody can mind.
        store.probe()?;
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        let mut parts = vec![batch.readings];
        while let Some(part) = parts.pop() {
            match (store.rehearse(&Batch { readings: part, gaps: &[], ..*batch }), part) {
                (Ok(()), _) => good.extend_from_slice(part),
                (Err(StoreError::Value(what)), [reading]) => refused.push((reading, what)),
                (Err(StoreError::Value(_)), _) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                (Err(error), _) => return Err(error),
            }
        }
        let Some((last, what)) = refused.last() else { return Err(refusal) };
        tracing::error!(readings = refused.len(), tag = &*last.tag, error = %what, "the database refuses these; they are put aside");
        let mut lines = Vec::new();
        for (reading, _) in &refused {
            write_line(&mut lines, &row(reading, batch.to));
        }
        self.keep(batch.from, &lines)?;
        let times = refused.iter().map(|(reading, _)| reading.time);
        let (from, to) = (times.clone().min().unwrap_or(last.time), times.max().unwrap_or(last.time));
        let gap = Gap { from, to, readings: refused.len() as u64, reason: REASON.to_owned() };
        let gaps = batch.gaps.iter().cloned().chain([gap]).collect();
        Ok(Separated { readings: good, gaps })
    }

    fn keep(&mut self, position: u64, lines: &[u8]) -> Result<(), StoreError> {
        let named = |error: std::io::Error| StoreError::Disk(error.to_string());
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| named(durable::name_error("create", &self.folder, error)))?;
        if self.files >= MOST_FILES {
            return Err(StoreError::Refused(format!(
                "it refuses one value after the other; see the {} files in {}, and mend the database",
                self.files,
                self.folder.display()
            )));
        }
        let file = self.folder.join(format!("{position}.jsonl"));
        durable::replace(&file, lines, Access::Shared).map_err(named)?;
        self.count();
        Ok(())
    }

    fn count(&mut self) {
        (self.files, self.readings) = (0, 0);
        for text in self.listed().filter_map(|file| std::fs::read(file).ok()) {
            self.files += 1;
            self.readings += text.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
    }

    /// The files, without what a kill has left beside them.
    fn listed(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_whole = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "jsonl");
        entries.map(|entry| entry.path()).filter(is_whole)
    }
}

/// As it would have been exported; whoever reads it back minds no `seq`.
fn row(reading: &Reading, seq: u64) -> Row<'_> {
    Row {
        seq,
        time: reading.time,
        tag_id: 0,
        tag: &reading.tag,
        value: reading.value,
        unit: reading.unit.as_deref(),
        quality: reading.quality,
        text: reading.text.as_deref(),
    }
}
