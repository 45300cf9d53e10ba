//! The tables: laid in an empty file, or found to be those of this version.

use std::time::{Duration, Instant};

use protocol::Timestamp;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};

use super::BUSY;
use crate::error::StoreError;
use crate::migrations::{self, Applied, Schema};
use crate::store::{new_epoch, signed};

/// Of two that open a new file at once, SQLite refuses one of them at this step without waiting for the other.
pub fn switch_to_wal(connection: &Connection) -> Result<(), rusqlite::Error> {
    let deadline = Instant::now() + BUSY;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}

pub fn applied(connection: &Connection) -> Result<Applied, rusqlite::Error> {
    let there: bool = connection.query_row(
        "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'",
        [],
        |row| row.get(0),
    )?;
    if !there {
        return Ok(Applied::new());
    }
    let mut statement = connection.prepare("SELECT name, sha256 FROM schema_migrations")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

pub fn lay_schema(connection: &mut Connection, expected: &Schema) -> Result<(), StoreError> {
    let before = applied(connection)?;
    if !before.is_empty() {
        return migrations::check(migrations::SQLITE, &before, expected);
    }
    // Of two that start at once, the second finds the first one's work when its turn comes.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if applied(&transaction)?.is_empty() {
        transaction.execute_batch(
            "CREATE TABLE schema_migrations (
                 name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL, attempt TEXT)",
        )?;
        for migration in migrations::SQLITE {
            transaction.execute_batch(migration.sql)?;
            transaction.execute(
                "INSERT INTO schema_migrations (name, sha256, applied_at) VALUES (?1, ?2, ?3)",
                params![migration.name, migration.sha256(), Timestamp::now().as_micros()],
            )?;
        }
        insert_epoch(&transaction, 1, 1)?;
    }
    transaction.commit()?;
    Ok(())
}

pub fn insert_epoch(transaction: &Transaction<'_>, number: i64, first_seq: u64) -> Result<(), rusqlite::Error> {
    let values = params![number, new_epoch(), signed(first_seq), Timestamp::now().as_micros()];
    transaction.execute("INSERT INTO epochs VALUES (?1, ?2, ?3, ?4)", values).map(|_| ())
}
