//! Minutes and hours, written beside the readings that they sum up.

use std::ops::RangeInclusive;

use rusqlite::{Transaction, params};

use super::time;
use crate::error::StoreError;
use crate::reading::Quality;
use crate::rollup::{self, Rolling, Rollup};
use crate::store::signed;

/// Readings that are stored and not rolled up.
pub fn add_stored(
    transaction: &Transaction<'_>,
    range: RangeInclusive<u64>,
    rolling: &mut Rolling,
) -> Result<(), StoreError> {
    if range.is_empty() {
        return Ok(());
    }
    let mut statement =
        transaction.prepare_cached("SELECT tag, time, value, quality FROM readings WHERE seq BETWEEN ?1 AND ?2")?;
    let mut rows = statement.query(params![signed(*range.start()), signed(*range.end())])?;
    while let Some(row) = rows.next()? {
        rolling.add(row.get(0)?, time(row.get(1)?), row.get(2)?, Quality(row.get(3)?));
    }
    Ok(())
}

/// From here on the rollups go up to `seq`.
pub fn write_rollups(transaction: &Transaction<'_>, rolling: &mut Rolling, seq: i64) -> Result<(), StoreError> {
    let (minutes, hours) = rolling.take();
    for (table, buckets) in rollup::TABLES.into_iter().zip([minutes, hours]) {
        let mut upsert = transaction.prepare_cached(&format!(
            "INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (start, tag) DO UPDATE SET
                 readings = readings + excluded.readings, bad = bad + excluded.bad,
                 minimum = min(coalesce(minimum, excluded.minimum), coalesce(excluded.minimum, minimum)),
                 maximum = max(coalesce(maximum, excluded.maximum), coalesce(excluded.maximum, maximum)),
                 first = iif(coalesce(first_time <= excluded.first_time, excluded.first_time IS NULL), first, excluded.first),
                 first_time = min(coalesce(first_time, excluded.first_time), coalesce(excluded.first_time, first_time)),
                 last = iif(coalesce(last_time > excluded.last_time, excluded.last_time IS NULL), last, excluded.last),
                 last_time = max(coalesce(last_time, excluded.last_time), coalesce(excluded.last_time, last_time))"
        ))?;
        for ((start, tag), Rollup { readings, bad, values }) in buckets {
            upsert.execute(params![
                start,
                tag,
                signed(readings),
                signed(bad),
                values.map(|values| values.minimum),
                values.map(|values| values.maximum),
                values.map(|values| values.first_time.as_micros()),
                values.map(|values| values.first),
                values.map(|values| values.last_time.as_micros()),
                values.map(|values| values.last),
            ])?;
        }
    }
    transaction.execute("UPDATE head SET rolled_seq = ?1", [seq])?;
    Ok(())
}
