//! One batch into the tables, in a transaction of the caller's.

use protocol::export::Gap;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::rollups::{add_stored, write_rollups};
use crate::error::StoreError;
use crate::reading::Reading;
use crate::rollup::Rolling;
use crate::store::{Appended, Batch, signed, unsigned};

/// Everything of [`Store::append`] but the commit; `tags` has the id of each reading's. What is taken back again need not
/// be rolled up.
pub fn append_in(
    transaction: &Transaction<'_>,
    tags: &[i64],
    batch: &Batch<'_>,
    rolling: Option<&mut Rolling>,
) -> Result<Appended, StoreError> {
    if !move_position(transaction, batch)? {
        let mut position = transaction.prepare_cached("SELECT position FROM ingest WHERE writer = ?1")?;
        let found = position.query_row([batch.writer], |row| row.get(0)).optional()?;
        return batch.not_moved(found.map_or(0, unsigned));
    }
    let mut count =
        transaction.prepare_cached("UPDATE head SET last_seq = last_seq + ?1 RETURNING last_seq, rolled_seq")?;
    let readings = signed(batch.readings.len() as u64);
    let (last_seq, rolled_seq): (i64, i64) = count.query_row([readings], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let first_seq = last_seq - readings + 1;
    if let Some((first_time, last_time)) = batch.times() {
        let mut note = transaction.prepare_cached("INSERT INTO batches VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let (first_time, last_time) = (first_time.as_micros(), last_time.as_micros());
        note.execute(params![last_seq, first_seq, batch.writer, signed(batch.to), first_time, last_time])?;
    }
    insert_readings(transaction, batch.readings, tags, first_seq)?;
    for gap in batch.gaps {
        insert_gap(transaction, batch.place_of_gaps(last_seq), None, gap)?;
    }
    if let Some(rolling) = rolling
        && let Some(missing) = rolling.missing(unsigned(rolled_seq), unsigned(first_seq))
    {
        add_stored(transaction, missing, rolling)?;
        for (reading, tag) in batch.readings.iter().zip(tags) {
            rolling.add(*tag, reading.time, reading.value, reading.quality);
        }
        if rolling.reaches(unsigned(last_seq)) {
            write_rollups(transaction, rolling, last_seq)?;
        }
    }
    Ok(Appended::Stored { last_seq: unsigned(last_seq) })
}

/// Whether the database was where this batch begins. A writer that never wrote is at 0.
fn move_position(transaction: &Transaction<'_>, batch: &Batch<'_>) -> Result<bool, StoreError> {
    let mut update =
        transaction.prepare_cached("UPDATE ingest SET position = ?3 WHERE writer = ?1 AND position = ?2")?;
    let mut moved = update.execute(params![batch.writer, signed(batch.from), signed(batch.to)])?;
    if moved == 0 && batch.from == 0 {
        moved = transaction.execute(
            "INSERT INTO ingest VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![batch.writer, signed(batch.to)],
        )?;
    }
    Ok(moved > 0)
}

/// So many rows a statement: what SQLite does for each is done once for all of them.
const ROWS: usize = 32;

fn insert_readings(
    transaction: &Transaction<'_>,
    readings: &[Reading],
    tags: &[i64],
    first_seq: i64,
) -> Result<(), StoreError> {
    const ROW: &str = "(?, ?, ?, ?, ?, ?)";
    let statement = |rows: usize| format!("INSERT INTO readings VALUES {}", vec![ROW; rows].join(", "));
    let mut many = transaction.prepare_cached(&statement(ROWS))?;
    let mut one = transaction.prepare_cached(&statement(1))?;
    let mut seqs = first_seq..;
    for (readings, tags) in readings.chunks(ROWS).zip(tags.chunks(ROWS)) {
        let (insert, rows) = if readings.len() == ROWS { (&mut many, ROWS) } else { (&mut one, 1) };
        for (readings, tags) in readings.chunks(rows).zip(tags.chunks(rows)) {
            let mut place = 1..;
            let mut next = || place.next().expect("without an end");
            for ((reading, tag), seq) in readings.iter().zip(tags).zip(&mut seqs) {
                insert.raw_bind_parameter(next(), seq)?;
                insert.raw_bind_parameter(next(), reading.time.as_micros())?;
                insert.raw_bind_parameter(next(), tag)?;
                insert.raw_bind_parameter(next(), reading.value)?;
                insert.raw_bind_parameter(next(), reading.quality.0)?;
                insert.raw_bind_parameter(next(), reading.text.as_deref())?;
            }
            insert.raw_execute()?;
        }
    }
    Ok(())
}

pub fn insert_gap(
    transaction: &Transaction<'_>,
    at_seq: i64,
    first_seq: Option<i64>,
    gap: &Gap,
) -> Result<(), rusqlite::Error> {
    transaction.execute(
        "INSERT INTO gaps (at_seq, first_seq, first_time, last_time, readings, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![at_seq, first_seq, gap.from.as_micros(), gap.to.as_micros(), signed(gap.readings), gap.reason],
    )?;
    Ok(())
}
