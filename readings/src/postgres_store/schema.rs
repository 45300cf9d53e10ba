//! The tables: laid in an empty database, or found to be those of this version.

use postgres::{Client, GenericClient, Transaction};

use crate::error::StoreError;
use crate::migrations::{self, Applied, Schema};
use crate::store::{new_epoch, signed};

/// Taken while the schema is laid; the number only has to be always the same.
const SCHEMA_LOCK: i64 = 0x706c_616e_746c_696e;

pub fn lay_schema(client: &mut Client, expected: &Schema) -> Result<(), StoreError> {
    let before = applied(client)?;
    if !before.is_empty() {
        return migrations::check(migrations::POSTGRES, &before, expected);
    }
    let mut transaction = client.transaction()?;
    // Of two that start at once, the second finds the first one's work when its turn comes.
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK])?;
    if applied(&mut transaction)?.is_empty() {
        transaction.batch_execute(
            "CREATE TABLE schema_migrations (
                 name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(),
                 attempt text, down text)",
        )?;
        for migration in migrations::POSTGRES {
            transaction.batch_execute(migration.sql)?;
            transaction.execute(
                "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)",
                &[&migration.name, &migration.sha256()],
            )?;
        }
        insert_epoch(&mut transaction, 1, 1)?;
    }
    transaction.commit()?;
    Ok(())
}

pub fn applied(client: &mut impl GenericClient) -> Result<Applied, StoreError> {
    // Not `to_regclass`: inside a transaction it may still answer from before the lock was waited for.
    let query =
        "SELECT EXISTS (SELECT FROM pg_tables WHERE tablename = 'schema_migrations' AND schemaname = current_schema())";
    let there: bool = client.query_one(query, &[])?.get(0);
    if !there {
        return Ok(Applied::new());
    }
    let rows = client.query("SELECT name, sha256 FROM schema_migrations", &[])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

pub fn insert_epoch(transaction: &mut Transaction<'_>, number: i32, first_seq: u64) -> Result<(), postgres::Error> {
    transaction
        .execute(
            "INSERT INTO epochs (number, epoch, first_seq) VALUES ($1, $2, $3)",
            &[&number, &new_epoch(), &signed(first_seq)],
        )
        .map(|_| ())
}
