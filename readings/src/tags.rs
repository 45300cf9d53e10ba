//! Names of tags by their ids, as reading a row needs them; and the ids by the names, as storing it does.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::error::StoreError;
use crate::reading::Reading;

/// Ids of tags that are committed, by name.
pub struct Ids<Id>(HashMap<Arc<str>, OfName<Id>, RandomState>);

/// By unit; few names have more than one.
type OfName<Id> = Vec<(Option<Arc<str>>, Id)>;

impl<Id> Default for Ids<Id> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<Id: Copy> Ids<Id> {
    pub fn of(&self, reading: &Reading) -> Option<Id> {
        let ids = self.0.get(&*reading.tag)?;
        ids.iter().find(|(unit, _)| *unit == reading.unit).map(|(_, id)| *id)
    }

    /// Of each reading; `None` if one has a tag that is not known yet.
    pub fn of_each(&self, readings: &[Reading]) -> Option<Vec<Id>> {
        readings.iter().map(|reading| self.of(reading)).collect()
    }

    pub fn extend(&mut self, others: Self) {
        for (name, ids) in others.0 {
            ids.into_iter().for_each(|(unit, id)| self.insert(name.clone(), unit, id));
        }
    }

    pub fn insert(&mut self, name: Arc<str>, unit: Option<Arc<str>>, id: Id) {
        let ids = self.0.entry(name).or_default();
        ids.retain(|(known, _)| *known != unit);
        ids.push((unit, id));
    }
}

#[derive(Default)]
pub struct Tags {
    by_id: HashMap<i64, Tag, BuildHasherDefault<IdHasher>>,
    /// Tags are committed before the first reading that uses them: every reading up to here has its tag in `by_id`.
    cover: u64,
}

pub struct Tag {
    pub name: String,
    pub unit: Option<String>,
}

impl Tags {
    pub fn new(cover: u64, tags: impl Iterator<Item = (i64, Tag)>) -> Self {
        Self { by_id: tags.collect(), cover }
    }

    pub fn covers(&self, last_seq: u64) -> bool {
        last_seq <= self.cover
    }

    #[inline]
    pub fn get(&self, id: i64) -> Result<&Tag, StoreError> {
        self.by_id.get(&id).ok_or_else(|| StoreError::Schema(format!("a reading has the unknown tag {id}")))
    }
}

/// The database gives the ids out one after the other; they need no hash that withstands an attack, once a row.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("an i64 hashes itself by write_i64");
    }

    #[inline]
    fn write_i64(&mut self, id: i64) {
        self.0 = id.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
