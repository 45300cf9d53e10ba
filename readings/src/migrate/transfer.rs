//! From SQLite to PostgreSQL, with all by which a reading is told from another: epochs, `seq`, batches, positions, gaps.
//!
//! All of it is one transaction of the target: killed at any moment, the target is as it was, or has everything. Whoever
//! calls it again after a kill finds which of the two it is.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use postgres::Transaction;
use protocol::Timestamp;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::{postgres as target, sqlite};
use crate::error::StoreError;
use crate::migrations::Schema;
use crate::postgres_copy::copy_frames;
use crate::postgres_store::{PostgresStore, connect};
use crate::reading::Reading;
use crate::rollup;
use crate::sqlite_store::SqliteStore;
use crate::store::{Span, Store as _, unsigned};

/// Readings that go over at a time.
const PAGE: u64 = 10_000;

/// What a table's columns hold, for its text.
#[derive(Clone, Copy)]
enum Column {
    Plain,
    /// Microseconds since 1970.
    Time,
    Float,
}

/// Every table but `readings` and `head`, in an order in which it can be filled.
const TABLES: [(&str, &str, &[Column]); 7] = {
    use Column::{Float, Plain, Time};
    const ROLLUP: &[Column] = &[Time, Plain, Plain, Plain, Float, Float, Time, Float, Time, Float];
    [
        ("epochs", "number, epoch, first_seq, started_at", &[Plain, Plain, Plain, Time]),
        ("tags", "id, name, unit", &[Plain; 3]),
        ("ingest", "writer, position", &[Plain; 2]),
        (
            "batches",
            "last_seq, first_seq, writer, position, first_time, last_time",
            &[Plain, Plain, Plain, Plain, Time, Time],
        ),
        (
            "gaps",
            "number, at_seq, first_seq, first_time, last_time, readings, reason",
            &[Plain, Plain, Plain, Time, Time, Plain, Plain],
        ),
        (rollup::TABLES[0], rollup::COLUMNS, ROLLUP),
        (rollup::TABLES[1], rollup::COLUMNS, ROLLUP),
    ]
};

/// What a move has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Readings(u64),
    /// An earlier call had moved it all and was interrupted behind that.
    Already,
}

/// Copies the database at `from`, which nobody writes meanwhile, into the one at `to`, which has to be new. `progress` is
/// told how many readings of how many are over.
///
/// # Errors
/// [`StoreError`]; then the target is as it was.
pub fn to_postgres(from: &Path, to: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<Moved, StoreError> {
    let mut source = SqliteStore::open(from, &Schema::BuiltIn)?;
    let tables = sqlite::open(from)?;
    let expected = sqlite::bearings(&tables)?;
    drop(PostgresStore::open(to, &Schema::BuiltIn)?);
    let mut client = connect(to)?;
    client.batch_execute("SET synchronous_commit = on; SET timezone = 'UTC'; SET lock_timeout = '10s'")?;
    let mut transaction = client.transaction()?;
    // The row that every writer needs.
    transaction.execute("SELECT last_seq FROM head FOR UPDATE", &[])?;
    let found = target::bearings(&mut transaction)?;
    if found == expected {
        return Ok(Moved::Already);
    }
    if found.last_seq != 0 || !found.positions.is_empty() {
        return Err(StoreError::Refused(
            "it holds readings already, and two histories cannot be made one; name an empty database".to_owned(),
        ));
    }
    transaction.batch_execute("DELETE FROM epochs; DELETE FROM tags")?;
    for (table, columns, kinds) in TABLES {
        copy_table(&tables, &mut transaction, table, columns, kinds)?;
    }
    transaction.batch_execute(
        "SELECT setval(pg_get_serial_sequence('tags', 'id'), (SELECT coalesce(max(id), 0) + 1 FROM tags), false)",
    )?;
    let moved = copy_readings(&mut source, &mut transaction, progress)?;
    let rolled_seq: i64 = tables.query_row("SELECT rolled_seq FROM head", [], |row| row.get(0))?;
    transaction.execute("UPDATE head SET last_seq = $1, rolled_seq = $2", &[&expected.last_seq, &rolled_seq])?;
    expected.check_unchanged(&target::bearings(&mut transaction)?)?;
    let there: i64 = transaction.query_one("SELECT count(*) FROM readings", &[])?.get(0);
    if unsigned(there) != moved {
        return Err(StoreError::Refused(format!("{moved} readings were sent and {there} have come")));
    }
    transaction.commit()?;
    client.batch_execute("ANALYZE")?;
    Ok(Moved::Readings(moved))
}

/// As `COPY`'s text: these are small beside the readings.
fn copy_table(
    from: &Connection,
    to: &mut Transaction<'_>,
    table: &str,
    columns: &str,
    kinds: &[Column],
) -> Result<(), StoreError> {
    let mut statement = from.prepare(&format!("SELECT {columns} FROM {table}"))?;
    let mut rows = statement.query([])?;
    let mut copy = to.copy_in(&format!("COPY {table} ({columns}) FROM STDIN"))?;
    let mut line = String::new();
    while let Some(row) = rows.next()? {
        line.clear();
        for (at, kind) in kinds.iter().enumerate() {
            if at > 0 {
                line.push('\t');
            }
            match (row.get_ref(at)?, kind) {
                (ValueRef::Null, _) => line.push_str("\\N"),
                (ValueRef::Integer(micros), Column::Time) => {
                    line.push_str(&Timestamp::from_micros(micros).unwrap_or(Timestamp::EPOCH).with_micros());
                }
                (ValueRef::Integer(number), Column::Plain) => line.push_str(&number.to_string()),
                (ValueRef::Real(number), Column::Float) => line.push_str(&format!("{number:?}")),
                (ValueRef::Text(text), _) => escape(&mut line, &String::from_utf8_lossy(text)),
                (ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_), _) => {
                    return Err(StoreError::Refused(format!("a row of {table} holds what it cannot hold")));
                }
            }
        }
        line.push('\n');
        copy.write_all(line.as_bytes())?;
    }
    copy.finish()?;
    Ok(())
}

fn escape(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\\' => line.push_str("\\\\"),
            '\t' => line.push_str("\\t"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            other => line.push(other),
        }
    }
}

fn copy_readings(
    from: &mut SqliteStore,
    to: &mut Transaction<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, StoreError> {
    let head = from.head()?;
    let total = head.last_seq + 1 - head.first_seq;
    let mut names: HashMap<i64, (Arc<str>, Option<Arc<str>>)> = HashMap::new();
    let (mut first_seq, mut moved) = (head.first_seq, 0);
    while first_seq <= head.last_seq {
        let last_seq = head.last_seq.min(first_seq + PAGE - 1);
        let (mut page, mut tags) = (Vec::new(), Vec::new());
        from.read(Span::all(first_seq, last_seq), &mut |row| {
            let name = names.entry(row.tag_id).or_insert_with(|| (row.tag.into(), row.unit.map(Arc::from)));
            // The copy of `tags` has refused one that is no i32.
            tags.push(i32::try_from(row.tag_id).unwrap_or_default());
            page.push(Reading {
                time: row.time,
                tag: name.0.clone(),
                value: row.value,
                unit: name.1.clone(),
                quality: row.quality,
                text: row.text.map(str::to_owned),
            });
        })?;
        if page.len() as u64 != last_seq + 1 - first_seq {
            return Err(StoreError::Refused(format!("between {first_seq} and {last_seq} readings are missing")));
        }
        let frames = copy_frames(&page, i64::try_from(first_seq).unwrap_or(i64::MAX), &tags);
        let mut copy = to.copy_in("COPY readings (seq, time, tag, value, quality, text) FROM STDIN (FORMAT binary)")?;
        copy.write_all(&frames)?;
        copy.finish()?;
        moved += page.len() as u64;
        progress(moved, total);
        first_seq = last_seq + 1;
    }
    Ok(moved)
}
