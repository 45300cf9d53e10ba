use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::Timestamp;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, TransactionBehavior, params};

use super::{Bearings, EPOCHS, KEPT_TABLES, LAST_SEQ, Migrated, Migration, POSITIONS, READINGS, new_ones};
use crate::error::StoreError;
use crate::migrations::{Applied, schema_of};
use crate::rollup;
use crate::sqlite_store::{self, file};

/// Readers hold the write-ahead log only for a statement; writers have been told to hold still.
const BUSY: Duration = Duration::from_secs(20);
const LONGEST_VALUE_BYTES: i32 = 32 << 20;
/// What SQLite lays beside a database. A stale one beside a new file of the same name would be taken for its own.
const COMPANIONS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// What has been applied to the database at `path`; nothing if there is no such file yet.
///
/// # Errors
/// [`StoreError`].
pub fn applied(path: &Path) -> Result<Applied, StoreError> {
    if !path.exists() {
        return Ok(Applied::new());
    }
    Ok(sqlite_store::applied(&open(path)?)?)
}

/// Copies a database that nobody writes to `to`, a name that was never used, durably.
///
/// # Errors
/// If somebody writes after all, the name is taken, or the disk fails.
pub fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    for taken in COMPANIONS.iter().map(|ending| companion(to, ending)).chain([to.to_owned()]) {
        if taken.exists() {
            return Err(StoreError::Disk(format!("{} is in the way", taken.display())));
        }
    }
    let mut source = open(from)?;
    // The log's content goes into the file proper, and the lock keeps it so: from here on the file is the database.
    let busy: i64 = source.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    let lock = source.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let log_bytes = fs::metadata(companion(from, "-wal")).map_or(0, |metadata| metadata.len());
    if busy != 0 || log_bytes != 0 {
        return Err(StoreError::Unreachable(format!("{} is being written", from.display())));
    }
    durable::copy(from, to).map_err(|error| StoreError::Disk(error.to_string()))?;
    drop(lock);
    Ok(())
}

/// Migrates the database at `path`, a copy, in one transaction. What was applied before is passed over.
///
/// # Errors
/// [`StoreError`]; then the copy is good for nothing.
pub fn migrate(path: &Path, migrations: &[Migration], attempt: &str) -> Result<Migrated, StoreError> {
    let mut connection = open(path)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // One value of a gigabyte must not take the plant PC's memory.
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE_BYTES)?;
    // Not the library's guard: the authorizer wants the connection itself. An early return closes it, which rolls back.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut applied = sqlite_store::applied(&connection)?;
    let before = bearings(&connection)?;
    let mut names = Vec::new();
    for migration in new_ones(migrations, &applied.clone())? {
        run(&mut connection, migration)?;
        connection.execute(
            "INSERT INTO schema_migrations (name, sha256, applied_at, attempt) VALUES (?1, ?2, ?3, ?4)",
            params![migration.name, migration.sha256(), Timestamp::now().as_micros(), attempt],
        )?;
        applied.insert(migration.name.clone(), migration.sha256());
        names.push(migration.name.clone());
    }
    before.check_unchanged(&bearings(&connection)?)?;
    // Also what the migration itself has written there.
    if sqlite_store::applied(&connection)? != applied {
        return Err(StoreError::Refused("a migration changes schema_migrations".into()));
    }
    connection.execute_batch("COMMIT")?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(Migrated { schema: schema_of(&applied), applied: names })
}

/// Adds to `to`, a copy of an older state of `from`, every reading that `from` has beyond it, with its `seq`, and all that
/// tells readings apart. Returns how many.
///
/// # Errors
/// [`StoreError`], also when `from` does not continue `to`; then the copy is good for nothing.
pub fn carry_over(from: &Path, to: &Path) -> Result<u64, StoreError> {
    let mut connection = open(to)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute("ATTACH DATABASE ?1 AS newer", [from.to_string_lossy()])?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let strange: i64 = transaction.query_row(
        "SELECT (SELECT count(*) FROM (SELECT number, epoch, first_seq FROM epochs
                                       EXCEPT SELECT number, epoch, first_seq FROM newer.epochs))
              + (SELECT count(*) FROM head JOIN newer.head AS newer WHERE head.last_seq > newer.last_seq)
              + (SELECT count(*) FROM (SELECT last_seq, writer, position FROM batches
                                       ORDER BY last_seq DESC LIMIT 1) AS newest
                 WHERE NOT EXISTS (SELECT 1 FROM newer.batches AS same WHERE same.last_seq = newest.last_seq
                                   AND same.writer = newest.writer AND same.position = newest.position)
                   AND EXISTS (SELECT 1 FROM newer.batches AS same WHERE same.last_seq <= newest.last_seq))",
        [],
        |row| row.get(0),
    )?;
    if strange != 0 {
        let what = format!("{} is not an older state of {}", to.display(), from.display());
        return Err(StoreError::Refused(what));
    }
    // What retention has dropped since the older state is dropped here, too.
    let kept_from: i64 = transaction.query_row(
        "SELECT coalesce((SELECT min(seq) FROM newer.readings), (SELECT last_seq + 1 FROM newer.head))",
        [],
        |row| row.get(0),
    )?;
    transaction.execute("DELETE FROM main.readings WHERE seq < ?1", [kept_from])?;
    transaction.execute("DELETE FROM main.batches WHERE last_seq < ?1", [kept_from])?;
    transaction.execute_batch(
        "INSERT OR REPLACE INTO gaps (number, at_seq, first_seq, first_time, last_time, readings, reason)
             SELECT number, at_seq, first_seq, first_time, last_time, readings, reason FROM newer.gaps;
         INSERT INTO epochs (number, epoch, first_seq, started_at)
             SELECT number, epoch, first_seq, started_at FROM newer.epochs
             WHERE number NOT IN (SELECT number FROM main.epochs);
         INSERT INTO tags (name, unit)
             SELECT DISTINCT name, unit FROM newer.tags AS newer
             WHERE NOT EXISTS (SELECT 1 FROM main.tags AS old WHERE old.name = newer.name AND old.unit IS newer.unit);
         INSERT INTO readings (seq, time, tag, value, quality, text)
             SELECT seq, time, old.id, value, quality, text
             FROM newer.readings AS reading
             JOIN newer.tags AS tag ON tag.id = reading.tag
             JOIN main.tags AS old ON old.name = tag.name AND old.unit IS tag.unit
             WHERE seq > (SELECT last_seq FROM main.head);
         INSERT INTO batches (last_seq, first_seq, writer, position, first_time, last_time)
             SELECT last_seq, first_seq, writer, position, first_time, last_time FROM newer.batches
             WHERE last_seq > (SELECT last_seq FROM main.head);
         INSERT OR REPLACE INTO ingest (writer, position) SELECT writer, position FROM newer.ingest;",
    )?;
    let (before, after): (i64, i64) = transaction.query_row(
        "SELECT main.head.last_seq, newer.head.last_seq FROM main.head, newer.head",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let carried: i64 =
        transaction.query_row("SELECT count(*) FROM main.readings WHERE seq > ?1", [before], |row| row.get(0))?;
    let expected = after - before.max(kept_from - 1);
    if carried != expected {
        let what = format!("{expected} readings should be carried over, and {carried} were found");
        return Err(StoreError::Refused(what));
    }
    for table in rollup::TABLES {
        transaction.execute_batch(&format!(
            "DELETE FROM main.{table};
             INSERT INTO main.{table} ({})
             SELECT start, old.id, readings, bad, minimum, maximum, first_time, first, last_time, last
             FROM newer.{table} AS rollup
             JOIN newer.tags AS tag ON tag.id = rollup.tag
             JOIN main.tags AS old ON old.name = tag.name AND old.unit IS tag.unit",
            rollup::COLUMNS
        ))?;
    }
    transaction
        .execute("UPDATE main.head SET last_seq = ?1, rolled_seq = (SELECT rolled_seq FROM newer.head)", [after])?;
    transaction.commit()?;
    connection.execute_batch("DETACH DATABASE newer")?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(carried.unsigned_abs())
}

fn run(connection: &mut Connection, migration: &Migration) -> Result<(), StoreError> {
    connection.authorizer(Some(authorize))?;
    let outcome = connection.execute_batch(&migration.up);
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    outcome.map_err(|error| StoreError::Refused(format!("migration {}: {error}", migration.name)))
}

/// Nothing that ends the transaction, reaches another file, loads code or changes how the database works.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::CreateVtable { .. }
        | AuthAction::DropVtable { .. } => Authorization::Deny,
        // What a reading is, and in which order it came, is not a migration's to change.
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::DropTable { table_name }
        | AuthAction::CreateTrigger { table_name, .. }
        | AuthAction::CreateTempTrigger { table_name, .. }
            if KEPT_TABLES.iter().any(|kept| table_name.eq_ignore_ascii_case(kept)) =>
        {
            Authorization::Deny
        }
        // `ALTER TABLE … ADD COLUMN … CHECK` looks into the table by one of these.
        AuthAction::Pragma { pragma_name, .. } => match pragma_name {
            "quick_check" | "integrity_check" | "foreign_key_check" | "table_info" => Authorization::Allow,
            _ => Authorization::Deny,
        },
        AuthAction::Function { function_name } => match function_name.eq_ignore_ascii_case("load_extension") {
            true => Authorization::Deny,
            false => Authorization::Allow,
        },
        _ => Authorization::Allow,
    }
}

pub fn bearings(connection: &Connection) -> Result<Bearings, rusqlite::Error> {
    let pairs = |query: &str| -> Result<Vec<(String, i64)>, rusqlite::Error> {
        connection.prepare(query)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    Ok(Bearings {
        last_seq: connection.query_row(LAST_SEQ, [], |row| row.get(0))?,
        epochs: pairs(EPOCHS)?,
        positions: pairs(POSITIONS)?,
        readings: connection.query_row(READINGS, [], |row| Ok((row.get(0)?, row.get(1)?)))?,
    })
}

pub fn open(path: &Path) -> Result<Connection, StoreError> {
    Ok(file::open(path, BUSY, true)?)
}

fn companion(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
