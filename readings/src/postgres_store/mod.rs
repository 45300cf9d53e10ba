//! PostgreSQL. Readings go in and out by binary `COPY`; writers of different processes take turns at the row of `head`.

mod append;
mod moment;
mod rollups;
mod schema;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postgres::Client;
use protocol::Timestamp;
use protocol::export::Gap;
use tokio_postgres_rustls::MakeRustlsConnect;

use self::append::{Statements, append_in, insert_gap};
use self::moment::{Moment, snapshot};
use self::rollups::{add_stored, write_rollups};
pub use self::schema::applied;
use self::schema::{insert_epoch, lay_schema};
use crate::error::StoreError;
use crate::migrations::Schema;
use crate::postgres_copy::CopyConnection;
use crate::postgres_url;
use crate::reading::{Quality, Reading};
use crate::retention::{self, BatchRow, Chosen, GapRow, Retirement};
use crate::rollup::{self, Rolling};
use crate::store::{Appended, Batch, EpochStart, Head, Row, Span, Store, probe, signed, unsigned};
use crate::tags::{Ids, Tag, Tags};
use crate::trend::{self, Snapshot as _, Trend, TrendQuery};

/// What keeps a session honest: a commit is on disk before it is seen; a lock that an old, dying backend still holds is
/// waited for, but not for ever; a session of ours whose plant PC has vanished is ended by the server, in a transaction or
/// in the middle of a `COPY`.
const SESSION: &str =
    "SET synchronous_commit = on; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s';
     SET statement_timeout = '120s';
     SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
     SET client_min_messages = warning; SET timezone = 'UTC'";

pub struct PostgresStore {
    url: String,
    client: Client,
    /// Made by the first [`Store::read`]; most who open a store never read.
    copying: Option<CopyConnection>,
    ids: Ids<i32>,
    tags: Tags,
    rolling: Rolling,
    /// Most who open a store never append.
    statements: Option<Statements>,
}

impl PostgresStore {
    pub fn open(url: &str, schema: &Schema) -> Result<Self, StoreError> {
        let mut client = connect(url)?;
        client.batch_execute(SESSION)?;
        lay_schema(&mut client, schema)?;
        let (ids, tags, rolling) = (Ids::default(), Tags::default(), Rolling::default());
        Ok(Self { url: url.to_owned(), client, copying: None, ids, tags, rolling, statements: None })
    }

    /// The id of each reading's tag; new ones are committed on their own, so that a failed batch cannot take one back.
    fn tag_ids(&mut self, readings: &[Reading]) -> Result<Vec<i32>, StoreError> {
        if let Some(ids) = self.ids.of_each(readings) {
            return Ok(ids);
        }
        let unknown = readings.iter().filter(|reading| self.ids.of(reading).is_none());
        let mut missing: Vec<(&str, Option<&str>)> =
            unknown.map(|reading| (&*reading.tag, reading.unit.as_deref())).collect();
        missing.sort_unstable();
        missing.dedup();
        let (names, units): (Vec<&str>, Vec<Option<&str>>) = missing.into_iter().unzip();
        self.client.execute(
            "INSERT INTO tags (name, unit) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING",
            &[&names, &units],
        )?;
        for row in self.client.query("SELECT id, name, unit FROM tags WHERE name = ANY ($1::text[])", &[&names])? {
            let unit: Option<&str> = row.get(2);
            self.ids.insert(row.get::<_, &str>(1).into(), unit.map(Arc::from), row.get(0));
        }
        self.ids.of_each(readings).ok_or_else(|| StoreError::Schema("a tag that was stored is not there".into()))
    }

    fn statements(&mut self) -> Result<Statements, StoreError> {
        let statements = match self.statements.take() {
            Some(statements) => statements,
            None => Statements::prepare(&mut self.client)?,
        };
        Ok(self.statements.insert(statements).clone())
    }

    fn load_tags(&mut self, last_seq: u64) -> Result<(), StoreError> {
        if self.tags.covers(last_seq) {
            return Ok(());
        }
        let cover = unsigned(self.client.query_one("SELECT last_seq FROM head", &[])?.get(0));
        let rows = self.client.query("SELECT id, name, unit FROM tags", &[])?;
        let tag = |row: &postgres::Row| (row.get::<_, i32>(0).into(), Tag { name: row.get(1), unit: row.get(2) });
        self.tags = Tags::new(cover, rows.iter().map(tag));
        Ok(())
    }
}

pub fn connect(url: &str) -> Result<Client, StoreError> {
    let target = postgres_url::parse(url)?;
    let connected = target.config.connect(MakeRustlsConnect::new(target.tls));
    connected.map_err(|error| postgres_url::named(url, error.into()))
}

fn system_time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

/// Microseconds since 1970 in a column.
fn time(row: &postgres::Row, column: usize) -> Timestamp {
    Timestamp::from_micros(row.get(column)).unwrap_or(Timestamp::EPOCH)
}

impl Store for PostgresStore {
    fn head(&mut self) -> Result<Head, StoreError> {
        // One statement, so one snapshot.
        let rows = self.client.query(
            "SELECT h.last_seq, coalesce((SELECT first_seq FROM batches ORDER BY last_seq LIMIT 1), h.last_seq + 1),
                 e.epoch, e.first_seq
             FROM head h, epochs e ORDER BY e.number",
            &[],
        )?;
        let first = rows.first().ok_or_else(|| StoreError::Schema("the table epochs is empty".into()))?;
        Ok(Head {
            last_seq: unsigned(first.get(0)),
            first_seq: unsigned(first.get(1)),
            epochs: rows.iter().map(|row| EpochStart { epoch: row.get(2), first_seq: unsigned(row.get(3)) }).collect(),
        })
    }

    fn position(&mut self, writer: &str) -> Result<u64, StoreError> {
        let row = self.client.query_opt("SELECT position FROM ingest WHERE writer = $1", &[&writer])?;
        Ok(row.map_or(0, |row| unsigned(row.get(0))))
    }

    fn append(&mut self, batch: &Batch<'_>) -> Result<Appended, StoreError> {
        let (statements, tags) = (self.statements()?, self.tag_ids(batch.readings)?);
        let mut transaction = self.client.transaction()?;
        // Of a transaction that fails, nothing is remembered.
        let mut rolling = std::mem::take(&mut self.rolling);
        let appended = append_in(&mut transaction, &statements, &tags, batch, Some(&mut rolling))?;
        transaction.commit()?;
        self.rolling = rolling;
        Ok(appended)
    }

    fn rehearse(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let (statements, tags) = (self.statements()?, self.tag_ids(batch.readings)?);
        let mut transaction = self.client.transaction()?;
        append_in(&mut transaction, &statements, &tags, batch, None)?;
        Ok(transaction.rollback()?)
    }

    fn begin_epoch(&mut self, current: &str, first_seq: u64, writer: &str, position: u64) -> Result<(), StoreError> {
        let mut transaction = self.client.transaction()?;
        // The row that every writer needs: nobody appends while the epoch changes.
        let last_seq: i64 = transaction.query_one("SELECT last_seq FROM head FOR UPDATE", &[])?.get(0);
        let row = transaction.query_one("SELECT number, epoch FROM epochs ORDER BY number DESC LIMIT 1", &[])?;
        let (number, epoch): (i32, String) = (row.get(0), row.get(1));
        if epoch == current {
            insert_epoch(&mut transaction, number + 1, first_seq.min(unsigned(last_seq) + 1))?;
            transaction.execute(
                "INSERT INTO ingest (writer, position) VALUES ($1, $2)
                 ON CONFLICT (writer) DO UPDATE SET position = excluded.position",
                &[&writer, &signed(position)],
            )?;
            transaction.commit()?;
        }
        Ok(())
    }

    fn read(&mut self, span: Span, each: &mut dyn FnMut(&Row<'_>)) -> Result<(), StoreError> {
        self.load_tags(span.last_seq)?;
        // COPY takes no parameters; these are numbers.
        let mut condition = format!("seq BETWEEN {} AND {}", signed(span.first_seq), signed(span.last_seq));
        if let Some(time) = span.not_before {
            condition += &format!(" AND time >= '{}'", time.with_micros());
        }
        let query = format!(
            "COPY (SELECT seq, time, tag, value, quality, text FROM readings WHERE {condition} ORDER BY seq)
             TO STDOUT (FORMAT binary)"
        );
        // Taken out: only a connection on which all went well is used again.
        let mut copying = match self.copying.take() {
            Some(copying) => copying,
            None => CopyConnection::open(&self.url)?,
        };
        copying.rows(&query, &mut |copied| {
            let tag = self.tags.get(copied.tag.into())?;
            each(&Row {
                seq: unsigned(copied.seq),
                time: Timestamp::from_micros(copied.micros).unwrap_or(Timestamp::EPOCH),
                tag_id: copied.tag.into(),
                tag: &tag.name,
                value: copied.value.filter(|value| value.is_finite()),
                unit: tag.unit.as_deref(),
                quality: Quality(u8::try_from(copied.quality).unwrap_or(0)),
                text: copied.text.and_then(|text| std::str::from_utf8(text).ok()),
            });
            Ok(())
        })?;
        self.copying = Some(copying);
        Ok(())
    }

    fn count(&mut self, span: Span) -> Result<u64, StoreError> {
        let Some(not_before) = span.not_before else { return Ok((span.last_seq + 1).saturating_sub(span.first_seq)) };
        let query = format!(
            "SELECT count(*) FROM readings WHERE seq BETWEEN $1 AND $2 AND time >= '{}'",
            not_before.with_micros()
        );
        let row = self.client.query_one(&query, &[&signed(span.first_seq), &signed(span.last_seq)])?;
        Ok(unsigned(row.get(0)))
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        self.client.batch_execute(probe::LAY)?;
        let written: i64 = self.client.query_one(probe::READ, &[])?.get(0);
        self.client.batch_execute(probe::REMOVE)?;
        probe::check(written > 0)?;
        let statements = self.statements()?;
        let mut transaction = self.client.transaction()?;
        let id: i32 =
            transaction.query_one("INSERT INTO tags (name) VALUES ($1) RETURNING id", &[&probe::NAME])?.get(0);
        let readings = probe::readings();
        append_in(&mut transaction, &statements, &vec![id; readings.len()], &probe::batch(&readings), None)?;
        let there: i64 = transaction.query_one(probe::COUNT, &[&id])?.get(0);
        transaction.rollback()?;
        probe::check(unsigned(there) == readings.len() as u64)
    }

    fn spans_since(&mut self, time: Timestamp, through_seq: u64) -> Result<Vec<Span>, StoreError> {
        let query = format!(
            "SELECT first_seq, last_seq, first_time < '{0}' FROM batches
             WHERE last_time >= '{0}' AND first_seq <= $1 ORDER BY last_seq",
            time.with_micros()
        );
        let rows = self.client.query(&query, &[&signed(through_seq)])?;
        let spans = rows.iter().map(|row| Span {
            first_seq: unsigned(row.get(0)),
            last_seq: unsigned(row.get(1)).min(through_seq),
            not_before: row.get::<_, bool>(2).then_some(time),
        });
        Ok(Span::joined(spans.collect()))
    }

    fn retire(&mut self, retirement: &Retirement) -> Result<u64, StoreError> {
        let chosen = retirement.choose(&mut |behind| {
            let rows = self.client.query(
                "SELECT first_seq, last_seq, (extract(epoch FROM first_time) * 1000000)::bigint,
                     (extract(epoch FROM last_time) * 1000000)::bigint FROM batches WHERE last_seq > $1
                 ORDER BY last_seq LIMIT $2",
                &[&signed(behind), &i64::from(retention::LOOKED_AT)],
            )?;
            let batch = |row: &postgres::Row| BatchRow {
                first_seq: unsigned(row.get(0)),
                last_seq: unsigned(row.get(1)),
                first_time: time(row, 2),
                last_time: time(row, 3),
            };
            Ok(rows.iter().map(batch).collect())
        })?;
        let Some(Chosen { first_seq, through, first_time, last_time }) = chosen else { return Ok(0) };
        let (first_seq, through) = (signed(first_seq), signed(through));
        // Rolled up before they go; how far only grows.
        while self.client.query_one("SELECT rolled_seq FROM head", &[])?.get::<_, i64>(0) < through {
            self.roll_up()?;
        }
        let mut transaction = self.client.transaction()?;
        transaction.execute("DELETE FROM batches WHERE last_seq <= $1", &[&through])?;
        // Minutes go with the readings of their time; a batch of a wrong clock takes no younger ones along. Hours stay: they
        // are few, and say how it was in other years.
        transaction.execute(
            "DELETE FROM rollups_minute
             WHERE start < least((SELECT first_time FROM batches ORDER BY last_seq LIMIT 1), $1::text::timestamptz)
                 - interval '1 minute'",
            &[&retirement.before.with_micros()],
        )?;
        let readings = transaction.execute("DELETE FROM readings WHERE seq <= $1", &[&through])?;
        let grown = transaction.execute(
            "UPDATE gaps SET at_seq = $1, first_time = least(first_time, $3::text::timestamptz),
                 last_time = greatest(last_time, $4::text::timestamptz), readings = readings + $5
             WHERE first_seq IS NOT NULL AND at_seq = $2::bigint - 1 AND reason = $6
               AND first_time > $7::text::timestamptz",
            &[
                &through,
                &first_seq,
                &first_time.with_micros(),
                &last_time.with_micros(),
                &signed(readings),
                &retirement.reason,
                &last_time.saturating_sub(retention::GROWS_FOR).with_micros(),
            ],
        )?;
        if grown == 0 {
            let gap = Gap { from: first_time, to: last_time, readings, reason: retirement.reason.to_owned() };
            insert_gap(&mut transaction, through, Some(first_seq), &gap)?;
        }
        transaction.commit()?;
        Ok(readings)
    }

    /// The server's own vacuum makes the room free for new readings.
    fn give_back(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn roll_up(&mut self) -> Result<bool, StoreError> {
        let mut transaction = self.client.transaction()?;
        // The row that every writer needs.
        let head = transaction.query_one("SELECT rolled_seq, last_seq FROM head FOR UPDATE", &[])?;
        let (rolled_seq, last_seq) = (unsigned(head.get(0)), unsigned(head.get(1)));
        let Some(range) = rollup::step(rolled_seq, last_seq) else { return Ok(false) };
        let seq = *range.end();
        let mut rolling = Rolling::default();
        add_stored(&mut transaction, range, &mut rolling)?;
        write_rollups(&mut transaction, &mut rolling, signed(seq))?;
        transaction.commit()?;
        Ok(seq < last_seq)
    }

    fn trend(&mut self, query: TrendQuery<'_>) -> Result<Option<Trend>, StoreError> {
        trend::trend(&mut Moment(snapshot(&mut self.client)?), query)
    }

    fn spans_between(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<Span>, StoreError> {
        Moment(snapshot(&mut self.client)?).spans(from, to)
    }

    fn read_tag(&mut self, tag: &str, span: Span, each: &mut dyn FnMut(&Row<'_>)) -> Result<(), StoreError> {
        let rows = self.client.query(
            "SELECT seq, (extract(epoch FROM time) * 1000000)::bigint, readings.tag, value, quality, text, unit
             FROM readings JOIN tags ON tags.id = readings.tag
             WHERE seq BETWEEN $1 AND $2 AND tags.name = $3 ORDER BY seq",
            &[&signed(span.first_seq), &signed(span.last_seq), &tag],
        )?;
        for row in &rows {
            each(&Row {
                seq: unsigned(row.get(0)),
                time: time(row, 1),
                tag_id: row.get::<_, i32>(2).into(),
                tag,
                value: row.get::<_, Option<f64>>(3).filter(|value| value.is_finite()),
                unit: row.get(6),
                quality: Quality(u8::try_from(row.get::<_, i16>(4)).unwrap_or(0)),
                text: row.get(5),
            });
        }
        Ok(())
    }

    fn gaps(&mut self, behind_seq: u64, through_seq: u64) -> Result<Vec<Gap>, StoreError> {
        let rows = self.client.query(
            "SELECT at_seq, first_seq, (extract(epoch FROM first_time) * 1000000)::bigint,
                 (extract(epoch FROM last_time) * 1000000)::bigint, readings, reason FROM gaps
             WHERE at_seq > $1 AND coalesce(first_seq, at_seq) <= $2 ORDER BY number",
            &[&signed(behind_seq), &signed(through_seq)],
        )?;
        let gaps = rows.iter().map(|row| {
            let (from, to, readings, reason) = (time(row, 2), time(row, 3), unsigned(row.get(4)), row.get(5));
            let first_seq = row.get::<_, Option<i64>>(1).map(unsigned);
            let gap = Gap { from, to, readings, reason };
            GapRow { at_seq: unsigned(row.get(0)), first_seq, gap }.between(behind_seq, through_seq)
        });
        Ok(gaps.flatten().collect())
    }
}
