//! Names of tags by their ids, as reading a row needs them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::error::StoreError;

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
struct IdHasher(u64);

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
