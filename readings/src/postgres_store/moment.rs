//! What a trend is drawn from, in one snapshot.

use std::ops::Range;
use std::time::SystemTime;

use postgres::{Client, IsolationLevel, Transaction};
use protocol::Timestamp;

use super::{system_time, time};
use crate::error::StoreError;
use crate::reading::Quality;
use crate::rollup::{self, Rollup, Values};
use crate::store::{Span, signed, unsigned};
use crate::trend::Snapshot;

/// One transaction, which sees one state and changes nothing.
pub fn snapshot(client: &mut Client) -> Result<Transaction<'_>, postgres::Error> {
    client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start()
}

pub struct Moment<'a>(pub Transaction<'a>);

impl Snapshot for Moment<'_> {
    fn ids(&mut self, tag: &str) -> Result<Vec<(i64, Option<String>)>, StoreError> {
        let rows = self.0.query("SELECT id, unit FROM tags WHERE name = $1 ORDER BY id", &[&tag])?;
        Ok(rows.iter().map(|row| (row.get::<_, i32>(0).into(), row.get(1))).collect())
    }

    fn rolled_and_last_seq(&mut self) -> Result<(u64, u64), StoreError> {
        let row = self.0.query_one("SELECT rolled_seq, last_seq FROM head", &[])?;
        Ok((unsigned(row.get(0)), unsigned(row.get(1))))
    }

    fn rollups(
        &mut self,
        length: i64,
        starts: Range<i64>,
        ids: &[i64],
        each: &mut dyn FnMut(i64, Rollup),
    ) -> Result<(), StoreError> {
        let starts = starts.step_by(usize::try_from(length).unwrap_or(usize::MAX));
        let starts: Vec<SystemTime> = starts.map(system_time).collect();
        let ids: Vec<i32> = ids.iter().filter_map(|id| i32::try_from(*id).ok()).collect();
        // One by one: the server would rather look through the whole table.
        let rows = self.0.query(
            &format!(
                "SELECT (extract(epoch FROM wanted.start) * 1000000)::bigint, readings, bad, minimum, maximum,
                     (extract(epoch FROM first_time) * 1000000)::bigint, first,
                     (extract(epoch FROM last_time) * 1000000)::bigint, last
                 FROM unnest($1::timestamptz[]) AS wanted (start) CROSS JOIN LATERAL (
                     SELECT * FROM {} WHERE start = wanted.start AND tag = ANY ($2) OFFSET 0) AS rollup",
                rollup::table(length)
            ),
            &[&starts, &ids],
        )?;
        for row in &rows {
            let values = row.get::<_, Option<f64>>(3).map(|minimum| Values {
                minimum,
                maximum: row.get(4),
                first_time: time(row, 5),
                first: row.get(6),
                last_time: time(row, 7),
                last: row.get(8),
            });
            each(row.get(0), Rollup { readings: unsigned(row.get(1)), bad: unsigned(row.get(2)), values });
        }
        Ok(())
    }

    fn spans(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<Span>, StoreError> {
        let rows = self.0.query(
            &format!(
                "SELECT first_seq, last_seq FROM batches WHERE last_time >= '{}' AND first_time < '{}' ORDER BY last_seq",
                from.with_micros(),
                to.with_micros()
            ),
            &[],
        )?;
        Ok(Span::joined(rows.iter().map(|row| Span::all(unsigned(row.get(0)), unsigned(row.get(1)))).collect()))
    }

    fn readings(
        &mut self,
        span: Span,
        ids: &[i64],
        each: &mut dyn FnMut(Timestamp, Option<f64>, Quality),
    ) -> Result<(), StoreError> {
        let ids: Vec<i32> = ids.iter().filter_map(|id| i32::try_from(*id).ok()).collect();
        let rows = self.0.query(
            "SELECT (extract(epoch FROM time) * 1000000)::bigint, value, quality FROM readings
             WHERE seq BETWEEN $1 AND $2 AND tag = ANY ($3) ORDER BY seq",
            &[&signed(span.first_seq), &signed(span.last_seq), &ids],
        )?;
        for row in &rows {
            let value = row.get::<_, Option<f64>>(1).filter(|value| value.is_finite());
            each(time(row, 0), value, Quality(u8::try_from(row.get::<_, i16>(2)).unwrap_or(0)));
        }
        Ok(())
    }
}
