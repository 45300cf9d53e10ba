//! The schema that this program knows. It is laid at the first start, in one transaction; after that only an update
//! changes it.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::error::StoreError;

pub struct Migration {
    pub name: &'static str,
    pub sql: &'static str,
}

pub const SQLITE: &[Migration] =
    &[Migration { name: "0001_readings.sql", sql: include_str!("../migrations/0001_readings.sqlite.sql") }];
pub const POSTGRES: &[Migration] =
    &[Migration { name: "0001_readings.sql", sql: include_str!("../migrations/0001_readings.postgres.sql") }];

impl Migration {
    pub fn sha256(&self) -> String {
        protocol::signing::hex(&Sha256::digest(self.sql.as_bytes()))
    }
}

/// Every migration that this program was built with has to be there, unedited.
pub fn check(known: &[Migration], applied: &BTreeMap<String, String>) -> Result<(), StoreError> {
    for migration in known {
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
    Ok(())
}
