//! Changing the schema of a database that holds readings: the part of an update that touches them.
//!
//! On SQLite a migration works on a copy ([`copy_sqlite`], [`migrate_sqlite`]); the original stays as it was. On
//! PostgreSQL it works in place, in one transaction that was rehearsed before ([`rehearse`], [`up`]) and that [`down`]
//! takes back. Nothing in a migration can end its transaction, reach other files or load code, and none may change what
//! exports and the collector rely on: epoch, order, positions.
//!
//! [`to_postgres`] takes a SQLite database to PostgreSQL.

mod postgres;
mod sqlite;
mod transfer;

use sha2::{Digest as _, Sha256};

pub use self::postgres::{Target, applied as applied_postgres, down, rehearse, undo, up};
pub use self::sqlite::{applied as applied_sqlite, carry_over, copy as copy_sqlite, migrate as migrate_sqlite};
pub use self::transfer::{Moved, to_postgres};
pub use crate::migrations::{Applied, schema_of};

use crate::error::StoreError;

/// A migration as a package brings it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// As recorded in `schema_migrations`: `0012_add_alarms.sql`.
    pub name: String,
    pub up: String,
    /// Takes it back. Only needed where an update works on the one database there is.
    pub down: Option<String>,
}

impl Migration {
    /// Hex; recorded beside the name.
    pub fn sha256(&self) -> String {
        protocol::signing::hex(&Sha256::digest(self.up.as_bytes()))
    }
}

/// A migrated database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// What [`crate::open_as`] will expect.
    pub schema: String,
    /// Names of what was applied now.
    pub applied: Vec<String>,
}

/// Those of `migrations` that the database has not had.
///
/// # Errors
/// [`StoreError::Schema`] if one of them was edited since.
pub fn new_ones<'a>(migrations: &'a [Migration], applied: &Applied) -> Result<Vec<&'a Migration>, StoreError> {
    let mut new = Vec::new();
    for migration in migrations {
        match applied.get(&migration.name) {
            None => new.push(migration),
            Some(hash) if *hash == migration.sha256() => {}
            Some(_) => {
                return Err(StoreError::Schema(format!(
                    "migration {} was applied before with other content",
                    migration.name
                )));
            }
        }
    }
    Ok(new)
}

/// What a migration may not change: everything by which a reading is told from another.
#[derive(Debug, PartialEq, Eq)]
struct Bearings {
    last_seq: i64,
    epochs: Vec<(String, i64)>,
    positions: Vec<(String, i64)>,
    readings: (Option<i64>, Option<i64>),
}

impl Bearings {
    fn check_unchanged(&self, after: &Self) -> Result<(), StoreError> {
        match self == after {
            true => Ok(()),
            false => Err(StoreError::Refused(
                "the migration changes the order of readings, an epoch or a writer's position".into(),
            )),
        }
    }
}

/// Tables whose rows no migration adds, changes or removes.
const KEPT_TABLES: [&str; 9] =
    ["readings", "batches", "gaps", "rollups_minute", "rollups_hour", "head", "epochs", "ingest", "schema_migrations"];
const EPOCHS: &str = "SELECT epoch, first_seq FROM epochs ORDER BY number";
const POSITIONS: &str = "SELECT writer, position FROM ingest ORDER BY writer";
const LAST_SEQ: &str = "SELECT last_seq FROM head";
const READINGS: &str = "SELECT (SELECT min(seq) FROM readings), (SELECT max(seq) FROM readings)";
