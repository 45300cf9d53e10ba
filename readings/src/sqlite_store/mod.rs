//! SQLite: the embedded default. Writers take turns by SQLite's own lock; `synchronous = FULL` makes a commit durable
//! before anybody sees it.

mod append;
pub mod file;
mod moment;
mod rollups;
mod schema;

use std::path::Path;
use std::time::Duration;

use protocol::Timestamp;
use protocol::export::Gap;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use self::append::{append_in, insert_gap};
use self::moment::Moment;
use self::rollups::{add_stored, write_rollups};
pub use self::schema::applied;
use self::schema::{insert_epoch, lay_schema, switch_to_wal};

use crate::error::StoreError;
use crate::migrations::Schema;
use crate::reading::{Quality, Reading};
use crate::retention::{self, BatchRow, Chosen, GapRow, Retirement};
use crate::rollup::{self, MINUTE, Rolling};
use crate::store::{Appended, Batch, EpochStart, Head, Row, Span, Store, probe, signed, unsigned};
use crate::tags::{Ids, Tag, Tags};
use crate::trend::{self, Snapshot as _, Trend, TrendQuery};

/// How long one writer waits for another. Transactions are short; an import's are the longest.
const BUSY: Duration = Duration::from_secs(10);

const READ: &str = "SELECT seq, time, tag, value, quality, text FROM readings WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq";
const READ_SINCE: &str = "SELECT seq, time, tag, value, quality, text FROM readings
                          WHERE seq BETWEEN ?1 AND ?2 AND time >= ?3 ORDER BY seq";

/// Whoever reads a span comes by each page once: SQLite's usual 2 MB would keep pages that nobody wants again. In KiB.
const CACHE_OF_A_READER: &str = "PRAGMA cache_size = -128";

/// How long the write-ahead log becomes, in pages of 4 KiB: what every batch changes goes into the file once for all of it.
const LOG_PAGES: i64 = 4_000;

/// Pages at a time: other writers wait for it.
const GIVE_BACK: &str = "PRAGMA incremental_vacuum(2000)";

pub struct SqliteStore {
    connection: Connection,
    ids: Ids<i64>,
    tags: Tags,
    rolling: Rolling,
}

impl SqliteStore {
    pub fn open(path: &Path, schema: &Schema) -> Result<Self, StoreError> {
        let named = |error: rusqlite::Error| match StoreError::from(error) {
            StoreError::Configuration(text) => StoreError::Configuration(format!(
                "could not open the SQLite database {}: {text}; check DATABASE_URL and who may write in its folder",
                path.display()
            )),
            StoreError::Disk(text) => StoreError::Disk(format!("{}: {text}", path.display())),
            other => other,
        };
        let mut connection = file::open(path, BUSY, false).map_err(named)?;
        // Of a new file, before anything is in it: so that room can be given back ([`Store::give_back`]).
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(named)?;
        switch_to_wal(&connection).map_err(named)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(named)?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES).map_err(named)?;
        // A program that may write to its own places only has no folder for temporary files.
        connection.pragma_update(None, "temp_store", "MEMORY").map_err(named)?;
        lay_schema(&mut connection, schema).map_err(|error| match error {
            StoreError::Disk(text) => StoreError::Disk(format!("{}: {text}", path.display())),
            other => other,
        })?;
        Ok(Self { connection, ids: Ids::default(), tags: Tags::default(), rolling: Rolling::default() })
    }

    /// The id of each reading's tag; new ones are committed on their own, so that a failed batch cannot take one back.
    fn tag_ids(&mut self, readings: &[Reading]) -> Result<Vec<i64>, StoreError> {
        if let Some(ids) = self.ids.of_each(readings) {
            return Ok(ids);
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut found = Ids::default();
        {
            let mut select = transaction.prepare_cached("SELECT id FROM tags WHERE name = ?1 AND unit IS ?2")?;
            let mut insert = transaction.prepare_cached("INSERT INTO tags (name, unit) VALUES (?1, ?2)")?;
            for reading in readings {
                if found.of(reading).is_some() {
                    continue;
                }
                let names = params![&*reading.tag, reading.unit.as_deref()];
                let id = match self.ids.of(reading) {
                    Some(id) => id,
                    None => match select.query_row(names, |row| row.get(0)).optional()? {
                        Some(id) => id,
                        None => insert.insert(names)?,
                    },
                };
                found.insert(reading.tag.clone(), reading.unit.clone(), id);
            }
        }
        transaction.commit()?;
        let ids = found.of_each(readings).expect("each has just been found or made");
        self.ids.extend(found);
        Ok(ids)
    }

    fn load_tags(&mut self, last_seq: u64) -> Result<(), StoreError> {
        if self.tags.covers(last_seq) {
            return Ok(());
        }
        let cover = self.connection.query_row("SELECT last_seq FROM head", [], |row| row.get(0)).map(unsigned)?;
        let mut statement = self.connection.prepare_cached("SELECT id, name, unit FROM tags")?;
        let tags = statement.query_map([], |row| Ok((row.get(0)?, Tag { name: row.get(1)?, unit: row.get(2)? })))?;
        self.tags = Tags::new(cover, tags.collect::<Result<Vec<_>, _>>()?.into_iter());
        Ok(())
    }
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap_or(Timestamp::EPOCH)
}

impl Store for SqliteStore {
    fn head(&mut self) -> Result<Head, StoreError> {
        // One statement, so one snapshot.
        let mut statement = self.connection.prepare_cached(
            "SELECT h.last_seq, coalesce((SELECT first_seq FROM batches ORDER BY last_seq LIMIT 1), h.last_seq + 1),
                 e.epoch, e.first_seq
             FROM head h, epochs e ORDER BY e.number",
        )?;
        let mut rows = statement.query([])?;
        let mut head = Head { epochs: Vec::new(), first_seq: 1, last_seq: 0 };
        while let Some(row) = rows.next()? {
            head.last_seq = unsigned(row.get(0)?);
            head.first_seq = unsigned(row.get(1)?);
            head.epochs.push(EpochStart { epoch: row.get(2)?, first_seq: unsigned(row.get(3)?) });
        }
        match head.epochs.is_empty() {
            true => Err(StoreError::Schema("the table epochs is empty".into())),
            false => Ok(head),
        }
    }

    fn position(&mut self, writer: &str) -> Result<u64, StoreError> {
        let position = self
            .connection
            .query_row("SELECT position FROM ingest WHERE writer = ?1", [writer], |row| row.get(0))
            .optional()?;
        Ok(position.map_or(0, unsigned))
    }

    fn append(&mut self, batch: &Batch<'_>) -> Result<Appended, StoreError> {
        let tags = self.tag_ids(batch.readings)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Of a transaction that fails, nothing is remembered.
        let mut rolling = std::mem::take(&mut self.rolling);
        let appended = append_in(&transaction, &tags, batch, Some(&mut rolling))?;
        transaction.commit()?;
        self.rolling = rolling;
        Ok(appended)
    }

    fn rehearse(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let tags = self.tag_ids(batch.readings)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        append_in(&transaction, &tags, batch, None)?;
        Ok(transaction.rollback()?)
    }

    fn begin_epoch(&mut self, current: &str, first_seq: u64, writer: &str, position: u64) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (number, epoch, last_seq): (i64, String, i64) = transaction.query_row(
            "SELECT e.number, e.epoch, h.last_seq FROM epochs e, head h ORDER BY e.number DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        if epoch == current {
            insert_epoch(&transaction, number + 1, first_seq.min(unsigned(last_seq) + 1))?;
            transaction.execute(
                "INSERT INTO ingest VALUES (?1, ?2) ON CONFLICT (writer) DO UPDATE SET position = excluded.position",
                params![writer, signed(position)],
            )?;
            transaction.commit()?;
        }
        Ok(())
    }

    fn read(&mut self, span: Span, each: &mut dyn FnMut(&Row<'_>)) -> Result<(), StoreError> {
        self.connection.execute_batch(CACHE_OF_A_READER)?;
        self.load_tags(span.last_seq)?;
        let (first, last) = (signed(span.first_seq), signed(span.last_seq));
        // Almost every reading is read without a condition on its time, which would be tried on each.
        let sql = if span.not_before.is_some() { READ_SINCE } else { READ };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = match span.not_before {
            Some(time) => statement.query(params![first, last, time.as_micros()])?,
            None => statement.query(params![first, last])?,
        };
        while let Some(row) = rows.next()? {
            let tag_id: i64 = row.get(2)?;
            let tag = self.tags.get(tag_id)?;
            each(&Row {
                seq: unsigned(row.get(0)?),
                time: time(row.get(1)?),
                tag_id,
                tag: &tag.name,
                value: row.get::<_, Option<f64>>(3)?.filter(|value| value.is_finite()),
                unit: tag.unit.as_deref(),
                quality: Quality(row.get(4)?),
                text: match row.get_ref(5)? {
                    ValueRef::Text(text) => std::str::from_utf8(text).ok(),
                    _ => None,
                },
            });
        }
        Ok(())
    }

    fn count(&mut self, span: Span) -> Result<u64, StoreError> {
        let Some(not_before) = span.not_before else { return Ok((span.last_seq + 1).saturating_sub(span.first_seq)) };
        let count = self.connection.query_row(
            "SELECT count(*) FROM readings WHERE seq BETWEEN ?1 AND ?2 AND time >= ?3",
            params![signed(span.first_seq), signed(span.last_seq), not_before.as_micros()],
            |row| row.get(0),
        )?;
        Ok(unsigned(count))
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        self.connection.execute_batch(probe::LAY)?;
        let written: i64 = self.connection.query_row(probe::READ, [], |row| row.get(0))?;
        self.connection.execute_batch(probe::REMOVE)?;
        probe::check(written > 0)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("INSERT INTO tags (name) VALUES (?1)", [probe::NAME])?;
        let id = transaction.last_insert_rowid();
        let readings = probe::readings();
        append_in(&transaction, &vec![id; readings.len()], &probe::batch(&readings), None)?;
        let there: i64 = transaction.query_row(probe::COUNT, [id], |row| row.get(0))?;
        transaction.rollback()?;
        probe::check(unsigned(there) == readings.len() as u64)
    }

    fn spans_since(&mut self, time: Timestamp, through_seq: u64) -> Result<Vec<Span>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT first_seq, last_seq, first_time < ?1 FROM batches
             WHERE last_time >= ?1 AND first_seq <= ?2 ORDER BY last_seq",
        )?;
        let spans = statement.query_map(params![time.as_micros(), signed(through_seq)], |row| {
            Ok(Span {
                first_seq: unsigned(row.get(0)?),
                last_seq: unsigned(row.get(1)?).min(through_seq),
                not_before: row.get::<_, bool>(2)?.then_some(time),
            })
        })?;
        Ok(Span::joined(spans.collect::<Result<_, _>>()?))
    }

    fn retire(&mut self, retirement: &Retirement) -> Result<u64, StoreError> {
        let chosen = retirement.choose(&mut |behind| {
            let mut statement = self.connection.prepare_cached(
                "SELECT first_seq, last_seq, first_time, last_time FROM batches WHERE last_seq > ?1
                 ORDER BY last_seq LIMIT ?2",
            )?;
            let rows = statement.query_map(params![signed(behind), retention::LOOKED_AT], |row| {
                Ok(BatchRow {
                    first_seq: unsigned(row.get(0)?),
                    last_seq: unsigned(row.get(1)?),
                    first_time: time(row.get(2)?),
                    last_time: time(row.get(3)?),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let Some(Chosen { first_seq, through, first_time, last_time }) = chosen else { return Ok(0) };
        let (first_seq, through) = (signed(first_seq), signed(through));
        // Rolled up before they go; how far only grows.
        while self.connection.query_row("SELECT rolled_seq FROM head", [], |row| row.get::<_, i64>(0))? < through {
            self.roll_up()?;
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let readings = transaction.execute("DELETE FROM readings WHERE seq <= ?1", [through])? as i64;
        transaction.execute("DELETE FROM batches WHERE last_seq <= ?1", [through])?;
        // Minutes go with the readings of their time; a batch of a wrong clock takes no younger ones along. Hours stay: they
        // are few, and say how it was in other years.
        transaction.execute(
            "DELETE FROM rollups_minute
             WHERE start < min((SELECT first_time FROM batches ORDER BY last_seq LIMIT 1), ?2) - ?1",
            [MINUTE, retirement.before.as_micros()],
        )?;
        let grown = transaction.execute(
            "UPDATE gaps SET at_seq = ?1, first_time = min(first_time, ?3), last_time = max(last_time, ?4),
                 readings = readings + ?5
             WHERE first_seq IS NOT NULL AND at_seq = ?2 - 1 AND reason = ?6 AND first_time > ?4 - ?7",
            params![
                through,
                first_seq,
                first_time.as_micros(),
                last_time.as_micros(),
                readings,
                retirement.reason,
                retention::GROWS_FOR.as_micros() as i64
            ],
        )?;
        if grown == 0 {
            let (readings, reason) = (unsigned(readings), retirement.reason.to_owned());
            let gap = Gap { from: first_time, to: last_time, readings, reason };
            insert_gap(&transaction, through, Some(first_seq), &gap)?;
        }
        transaction.commit()?;
        Ok(unsigned(readings))
    }

    fn give_back(&mut self) -> Result<bool, StoreError> {
        let free =
            |connection: &Connection| connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0));
        let before = free(&self.connection)?;
        let mut vacuum = self.connection.prepare_cached(GIVE_BACK)?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        drop(steps);
        drop(vacuum);
        let left = free(&self.connection)?;
        // A file that was made elsewhere gives nothing back.
        let goes_on = left > 0 && left < before;
        if !goes_on {
            // The file becomes shorter when the log's content goes into it; who reads just now keeps it from that.
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(goes_on)
    }

    fn roll_up(&mut self) -> Result<bool, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (rolled_seq, last_seq): (i64, i64) =
            transaction.query_row("SELECT rolled_seq, last_seq FROM head", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Some(range) = rollup::step(unsigned(rolled_seq), unsigned(last_seq)) else { return Ok(false) };
        let seq = *range.end();
        let mut rolling = Rolling::default();
        add_stored(&transaction, range, &mut rolling)?;
        write_rollups(&transaction, &mut rolling, signed(seq))?;
        transaction.commit()?;
        Ok(seq < unsigned(last_seq))
    }

    fn trend(&mut self, query: TrendQuery<'_>) -> Result<Option<Trend>, StoreError> {
        let mut snapshot = Moment(self.connection.transaction()?);
        trend::trend(&mut snapshot, query)
    }

    fn spans_between(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<Span>, StoreError> {
        Moment(self.connection.transaction()?).spans(from, to)
    }

    fn read_tag(&mut self, tag: &str, span: Span, each: &mut dyn FnMut(&Row<'_>)) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, time, readings.tag, value, quality, text, unit FROM readings JOIN tags ON tags.id = readings.tag
             WHERE seq BETWEEN ?1 AND ?2 AND readings.tag IN (SELECT id FROM tags WHERE name = ?3) ORDER BY seq",
        )?;
        let mut rows = statement.query(params![signed(span.first_seq), signed(span.last_seq), tag])?;
        while let Some(row) = rows.next()? {
            let unit: Option<String> = row.get(6)?;
            let text: Option<String> = row.get(5)?;
            each(&Row {
                seq: unsigned(row.get(0)?),
                time: time(row.get(1)?),
                tag_id: row.get(2)?,
                tag,
                value: row.get(3)?,
                unit: unit.as_deref(),
                quality: Quality(row.get(4)?),
                text: text.as_deref(),
            });
        }
        Ok(())
    }

    fn gaps(&mut self, behind_seq: u64, through_seq: u64) -> Result<Vec<Gap>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT at_seq, first_seq, first_time, last_time, readings, reason FROM gaps
             WHERE at_seq > ?1 AND coalesce(first_seq, at_seq) <= ?2 ORDER BY number",
        )?;
        let rows = statement.query_map([signed(behind_seq), signed(through_seq)], |row| {
            let gap = Gap {
                from: time(row.get(2)?),
                to: time(row.get(3)?),
                readings: unsigned(row.get(4)?),
                reason: row.get(5)?,
            };
            let first_seq = row.get::<_, Option<i64>>(1)?.map(unsigned);
            Ok(GapRow { at_seq: unsigned(row.get(0)?), first_seq, gap }.between(behind_seq, through_seq))
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}
