//! The schema that this program knows. It is laid at the first start, in one transaction; after that only an update
//! changes it.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::error::StoreError;

/// A migration that this program was built with.
pub struct BuiltIn {
    pub name: &'static str,
    pub sql: &'static str,
}

/// Names and hashes of what a database says has been applied to it.
pub type Applied = BTreeMap<String, String>;

pub const SQLITE: &[BuiltIn] =
    &[BuiltIn { name: "0001_readings.sql", sql: include_str!("../migrations/0001_readings.sqlite.sql") }];
pub const POSTGRES: &[BuiltIn] =
    &[BuiltIn { name: "0001_readings.sql", sql: include_str!("../migrations/0001_readings.postgres.sql") }];

impl BuiltIn {
    pub fn sha256(&self) -> String {
        protocol::signing::hex(&Sha256::digest(self.sql.as_bytes()))
    }
}

/// What an update leaves in the boot record of the schema that it made: SHA-256 of the sorted lines `name\0sha256\n`, hex.
pub fn schema_of(applied: &Applied) -> String {
    let lines: String = applied.iter().map(|(name, sha256)| format!("{name}\0{sha256}\n")).collect();
    protocol::signing::hex(&Sha256::digest(lines.as_bytes()))
}

/// Which schema a program may work with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Schema {
    /// That of the migrations it was built with.
    #[default]
    BuiltIn,
    /// What an update has made of it ([`schema_of`]).
    Updated(String),
    /// Either: a person has named another database since, which may be a new one, or the same at another place.
    Any(String),
}

/// Every migration that this program was built with has to be there, unedited; beyond these only what an update has applied.
pub fn check(built_in: &[BuiltIn], applied: &Applied, expected: &Schema) -> Result<(), StoreError> {
    for migration in built_in {
        match applied.get(migration.name) {
            None => {
                return Err(StoreError::Schema(format!(
                    "migration {} is missing; an update brings it",
                    migration.name
                )));
            }
            Some(hash) if *hash != migration.sha256() => {
                return Err(StoreError::Schema(format!(
                    "migration {} was edited after it was applied",
                    migration.name
                )));
            }
            Some(_) => {}
        }
    }
    let is_built_in = applied.len() == built_in.len();
    let is_expected = match expected {
        Schema::BuiltIn => is_built_in,
        Schema::Updated(schema) => schema_of(applied) == *schema,
        Schema::Any(schema) => is_built_in || schema_of(applied) == *schema,
    };
    if is_expected {
        return Ok(());
    }
    let strange: Vec<&str> = applied.keys().map(String::as_str).collect();
    Err(StoreError::Schema(format!(
        "it has had the migrations {}, which are not those of the version that runs here",
        strange.join(", ")
    )))
}
