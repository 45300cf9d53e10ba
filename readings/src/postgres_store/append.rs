//! One batch into the tables, in a transaction of the caller's.

use std::io::Write as _;

use postgres::{Client, Statement, Transaction};
use protocol::export::Gap;

use super::rollups::{add_stored, write_rollups};
use crate::error::StoreError;
use crate::postgres_copy::copy_frames;
use crate::rollup::Rolling;
use crate::store::{Appended, Batch, signed, unsigned};

/// What every batch says, understood by the server once a connection.
#[derive(Clone)]
pub struct Statements {
    first: Statement,
    move_position: Statement,
    count: Statement,
    note: Statement,
    copy: Statement,
}

impl Statements {
    pub fn prepare(client: &mut Client) -> Result<Self, StoreError> {
        Ok(Self {
            first: client.prepare("INSERT INTO ingest (writer, position) VALUES ($1, $2) ON CONFLICT DO NOTHING")?,
            move_position: client.prepare("UPDATE ingest SET position = $3 WHERE writer = $1 AND position = $2")?,
            count: client.prepare("UPDATE head SET last_seq = last_seq + $1 RETURNING last_seq, rolled_seq")?,
            note: client.prepare(
                "INSERT INTO batches (last_seq, first_seq, writer, position, first_time, last_time)
                 VALUES ($1, $2, $3, $4, $5::text::timestamptz, $6::text::timestamptz)",
            )?,
            copy: client.prepare("COPY readings (seq, time, tag, value, quality, text) FROM STDIN (FORMAT binary)")?,
        })
    }
}

/// Of a batch's rows, what is sent at a time: the server stores it while the next is on its way.
const PIECE: usize = 64 << 10;

/// Everything of [`Store::append`] but the commit; `tags` has the id of each reading's. What is taken back again need not
/// be rolled up.
pub fn append_in(
    transaction: &mut Transaction<'_>,
    statements: &Statements,
    tags: &[i32],
    batch: &Batch<'_>,
    rolling: Option<&mut Rolling>,
) -> Result<Appended, StoreError> {
    let (writer, from, to) = (&batch.writer, signed(batch.from), signed(batch.to));
    let mut moved = transaction.execute(&statements.move_position, &[writer, &from, &to])?;
    // A writer that never wrote is at 0.
    if moved == 0 && from == 0 {
        moved = transaction.execute(&statements.first, &[writer, &to])?;
    }
    if moved == 0 {
        let found = transaction.query_opt("SELECT position FROM ingest WHERE writer = $1", &[writer])?;
        return batch.not_moved(found.map_or(0, |row| unsigned(row.get(0))));
    }
    let count = signed(batch.readings.len() as u64);
    let head = transaction.query_one(&statements.count, &[&count])?;
    let (last_seq, rolled_seq): (i64, i64) = (head.get(0), head.get(1));
    let first_seq = last_seq - count + 1;
    // From here on only what takes part.
    let mut rolling = match rolling.map(|rolling| (rolling.missing(unsigned(rolled_seq), unsigned(first_seq)), rolling))
    {
        Some((Some(missing), rolling)) => {
            add_stored(transaction, missing, rolling)?;
            Some(rolling)
        }
        _ => None,
    };
    if let Some((first_time, last_time)) = batch.times() {
        let (first_time, last_time) = (first_time.with_micros(), last_time.with_micros());
        transaction.execute(&statements.note, &[&last_seq, &first_seq, writer, &to, &first_time, &last_time])?;
        let mut copy = transaction.copy_in(&statements.copy)?;
        for piece in copy_frames(batch.readings, first_seq, tags).chunks(PIECE) {
            copy.write_all(piece)?;
            copy.flush()?;
        }
        // While the server stores them.
        if let Some(rolling) = &mut rolling {
            for (reading, tag) in batch.readings.iter().zip(tags) {
                rolling.add((*tag).into(), reading.time, reading.value, reading.quality);
            }
        }
        copy.finish()?;
    }
    for gap in batch.gaps {
        insert_gap(transaction, batch.place_of_gaps(last_seq), None, gap)?;
    }
    if let Some(rolling) = rolling
        && rolling.reaches(unsigned(last_seq))
    {
        write_rollups(transaction, rolling, last_seq)?;
    }
    Ok(Appended::Stored { last_seq: unsigned(last_seq) })
}

pub fn insert_gap(
    transaction: &mut Transaction<'_>,
    at_seq: i64,
    first_seq: Option<i64>,
    gap: &Gap,
) -> Result<(), postgres::Error> {
    transaction.execute(
        "INSERT INTO gaps (number, at_seq, first_seq, first_time, last_time, readings, reason)
         SELECT coalesce(max(number), 0) + 1, $1, $2, $3::text::timestamptz, $4::text::timestamptz, $5, $6 FROM gaps",
        &[&at_seq, &first_seq, &gap.from.with_micros(), &gap.to.with_micros(), &signed(gap.readings), &gap.reason],
    )?;
    Ok(())
}
