//! Minutes and hours, written beside the readings that they sum up.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use postgres::Transaction;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;
use protocol::Timestamp;

use super::{system_time, time};
use crate::error::StoreError;
use crate::reading::Quality;
use crate::rollup::{self, COLUMNS, Rolling, Rollup, Values};
use crate::store::signed;

/// Readings that are stored and not rolled up.
pub fn add_stored(
    transaction: &mut Transaction<'_>,
    range: RangeInclusive<u64>,
    rolling: &mut Rolling,
) -> Result<(), StoreError> {
    if range.is_empty() {
        return Ok(());
    }
    let rows = transaction.query(
        "SELECT tag, (extract(epoch FROM time) * 1000000)::bigint, value, quality FROM readings
         WHERE seq BETWEEN $1 AND $2 ORDER BY seq",
        &[&signed(*range.start()), &signed(*range.end())],
    )?;
    for row in rows {
        let value = row.get::<_, Option<f64>>(2).filter(|value| value.is_finite());
        let quality = Quality(u8::try_from(row.get::<_, i16>(3)).unwrap_or(0));
        rolling.add(row.get::<_, i32>(0).into(), time(&row, 1), value, quality);
    }
    Ok(())
}

/// From here on the rollups go up to `seq`.
pub fn write_rollups(transaction: &mut Transaction<'_>, rolling: &mut Rolling, seq: i64) -> Result<(), StoreError> {
    let (minutes, hours) = rolling.take();
    for (table, buckets) in rollup::TABLES.into_iter().zip([minutes, hours]) {
        let newest: Option<SystemTime> = transaction.query_one(&format!("SELECT max(start) FROM {table}"), &[])?.get(0);
        // What is newer than everything there is cannot be there already, and need not be looked for.
        let known = newest.map_or(0, |newest| buckets.partition_point(|((start, _), _)| system_time(*start) <= newest));
        let (known, new) = buckets.split_at(known);
        if !known.is_empty() {
            add_to_rollups(transaction, table, known)?;
        }
        if !new.is_empty() {
            copy_rollups(transaction, table, new)?;
        }
    }
    transaction.execute("UPDATE head SET rolled_seq = $1", &[&seq])?;
    Ok(())
}

fn add_to_rollups(
    transaction: &mut Transaction<'_>,
    table: &str,
    buckets: &[((i64, i64), Rollup)],
) -> Result<(), StoreError> {
    let of = |number: fn(&Values) -> f64| -> Vec<Option<f64>> {
        buckets.iter().map(|(_, rollup)| rollup.values.as_ref().map(number)).collect()
    };
    let at = |time: fn(&Values) -> Timestamp| -> Vec<Option<SystemTime>> {
        let times = buckets.iter().map(|(_, rollup)| rollup.values.as_ref().map(time));
        times.map(|time| time.map(|time| system_time(time.as_micros()))).collect()
    };
    let starts: Vec<SystemTime> = buckets.iter().map(|((start, _), _)| system_time(*start)).collect();
    let tags: Vec<i32> = buckets.iter().map(|((_, tag), _)| i32::try_from(*tag).unwrap_or_default()).collect();
    let readings: Vec<i64> = buckets.iter().map(|(_, rollup)| signed(rollup.readings)).collect();
    let bad: Vec<i64> = buckets.iter().map(|(_, rollup)| signed(rollup.bad)).collect();
    transaction.execute(
        &format!(
            "INSERT INTO {table} AS old ({COLUMNS})
             SELECT * FROM unnest($1::timestamptz[], $2::integer[], $3::bigint[], $4::bigint[], $5::float8[], $6::float8[],
                 $7::timestamptz[], $8::float8[], $9::timestamptz[], $10::float8[])
             ON CONFLICT (start, tag) DO UPDATE SET
                 readings = old.readings + excluded.readings, bad = old.bad + excluded.bad,
                 minimum = least(old.minimum, excluded.minimum), maximum = greatest(old.maximum, excluded.maximum),
                 first = CASE WHEN coalesce(old.first_time <= excluded.first_time, excluded.first_time IS NULL)
                     THEN old.first ELSE excluded.first END,
                 first_time = least(old.first_time, excluded.first_time),
                 last = CASE WHEN coalesce(old.last_time > excluded.last_time, excluded.last_time IS NULL)
                     THEN old.last ELSE excluded.last END,
                 last_time = greatest(old.last_time, excluded.last_time)"
        ),
        &[
            &starts,
            &tags,
            &readings,
            &bad,
            &of(|values| values.minimum),
            &of(|values| values.maximum),
            &at(|values| values.first_time),
            &of(|values| values.first),
            &at(|values| values.last_time),
            &of(|values| values.last),
        ],
    )?;
    Ok(())
}

fn copy_rollups(
    transaction: &mut Transaction<'_>,
    table: &str,
    buckets: &[((i64, i64), Rollup)],
) -> Result<(), StoreError> {
    const TIME: Type = Type::TIMESTAMPTZ;
    const NUMBER: Type = Type::FLOAT8;
    let types = [TIME, Type::INT4, Type::INT8, Type::INT8, NUMBER, NUMBER, TIME, NUMBER, TIME, NUMBER];
    let copy = transaction.copy_in(&format!("COPY {table} ({COLUMNS}) FROM STDIN (FORMAT binary)"))?;
    let mut copy = BinaryCopyInWriter::new(copy, &types);
    for ((start, tag), Rollup { readings, bad, values }) in buckets {
        let at = |time: fn(&Values) -> Timestamp| values.as_ref().map(time).map(|time| system_time(time.as_micros()));
        let of = |number: fn(&Values) -> f64| values.as_ref().map(number);
        copy.write(&[
            &system_time(*start),
            &i32::try_from(*tag).unwrap_or_default(),
            &signed(*readings),
            &signed(*bad),
            &of(|values| values.minimum),
            &of(|values| values.maximum),
            &at(|values| values.first_time),
            &of(|values| values.first),
            &at(|values| values.last_time),
            &of(|values| values.last),
        ])?;
    }
    copy.finish()?;
    Ok(())
}
