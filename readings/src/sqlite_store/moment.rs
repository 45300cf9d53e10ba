//! What a trend is drawn from, in one transaction.

use std::ops::Range;

use protocol::Timestamp;
use rusqlite::Transaction;

use super::time;
use crate::error::StoreError;
use crate::reading::Quality;
use crate::rollup::{self, Rollup, Values};
use crate::store::{Span, signed, unsigned};
use crate::trend::Snapshot;

/// One transaction, which sees one state.
pub struct Moment<'a>(pub Transaction<'a>);

impl Snapshot for Moment<'_> {
    fn ids(&mut self, tag: &str) -> Result<Vec<(i64, Option<String>)>, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT id, unit FROM tags WHERE name = ?1 ORDER BY id")?;
        let ids = statement.query_map([tag], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    fn rolled_and_last_seq(&mut self) -> Result<(u64, u64), StoreError> {
        let seqs = self.0.query_row("SELECT rolled_seq, last_seq FROM head", [], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(seqs.map(|(rolled, last)| (unsigned(rolled), unsigned(last)))?)
    }

    fn rollups(
        &mut self,
        length: i64,
        starts: Range<i64>,
        ids: &[i64],
        each: &mut dyn FnMut(i64, Rollup),
    ) -> Result<(), StoreError> {
        let mut statement = self.0.prepare_cached(&format!(
            "SELECT readings, bad, minimum, maximum, first_time, first, last_time, last FROM {}
             WHERE start = ?1 AND tag = ?2",
            rollup::table(length)
        ))?;
        for start in starts.step_by(usize::try_from(length).unwrap_or(usize::MAX)) {
            for id in ids {
                let mut rows = statement.query([start, *id])?;
                let Some(row) = rows.next()? else { continue };
                let values = match row.get::<_, Option<f64>>(2)? {
                    None => None,
                    Some(minimum) => Some(Values {
                        minimum,
                        maximum: row.get(3)?,
                        first_time: time(row.get(4)?),
                        first: row.get(5)?,
                        last_time: time(row.get(6)?),
                        last: row.get(7)?,
                    }),
                };
                each(start, Rollup { readings: unsigned(row.get(0)?), bad: unsigned(row.get(1)?), values });
            }
        }
        Ok(())
    }

    fn spans(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<Span>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT first_seq, last_seq FROM batches WHERE last_time >= ?1 AND first_time < ?2 ORDER BY last_seq",
        )?;
        let spans = statement.query_map([from.as_micros(), to.as_micros()], |row| {
            Ok(Span::all(unsigned(row.get(0)?), unsigned(row.get(1)?)))
        })?;
        Ok(Span::joined(spans.collect::<Result<_, _>>()?))
    }

    fn readings(
        &mut self,
        span: Span,
        ids: &[i64],
        each: &mut dyn FnMut(Timestamp, Option<f64>, Quality),
    ) -> Result<(), StoreError> {
        let mut statement =
            self.0.prepare_cached("SELECT tag, time, value, quality FROM readings WHERE seq BETWEEN ?1 AND ?2")?;
        let mut rows = statement.query([signed(span.first_seq), signed(span.last_seq)])?;
        while let Some(row) = rows.next()? {
            if ids.contains(&row.get(0)?) {
                each(time(row.get(1)?), row.get(2)?, Quality(row.get(3)?));
            }
        }
        Ok(())
    }
}
