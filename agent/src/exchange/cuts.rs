//! `state/agent/exports.db`: what HQ was told. A cut is on disk before anybody hears of it.

use std::path::Path;

use protocol::control::{Acknowledged, Exported, HqKey};
use protocol::{Failure, Timestamp};
use readings::{EpochStart, Head};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, Transaction, params};

/// The exact set of readings that one export covers: all up to `seq` of `epoch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Strictly rising, later than every earlier one.
    pub period_end: Timestamp,
    pub epoch: String,
    pub seq: u64,
}

pub struct Cuts(Connection);

/// Who asks for an export, and the time that he has signed.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub key: &'a str,
    pub signed_at: Timestamp,
}

/// Writers of exports follow each other.
const BUSY: std::time::Duration = std::time::Duration::from_secs(10);
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS cuts (
        period_end INTEGER PRIMARY KEY, -- microseconds since 1970
        epoch      TEXT    NOT NULL,
        seq        INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS cuts_place ON cuts (epoch, seq);
    CREATE TABLE IF NOT EXISTS acknowledgements (
        key        TEXT PRIMARY KEY,
        period_end INTEGER NOT NULL,
        at         INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS keys (
        key       TEXT PRIMARY KEY,
        asked_at  INTEGER NOT NULL, -- by this clock
        signed_at INTEGER NOT NULL, -- by HQ's
        whole_at  INTEGER           -- when an export last went out whole
    );
    -- When an earlier file was damaged and put aside: who asked before is not known.
    CREATE TABLE IF NOT EXISTS forgotten (at INTEGER NOT NULL);
    -- Every epoch ever seen in the database, and which one it followed.
    CREATE TABLE IF NOT EXISTS epochs (
        epoch     TEXT PRIMARY KEY,
        first_seq INTEGER NOT NULL,
        parent    TEXT
    );";

impl Cuts {
    /// # Errors
    /// A file that is no such database, or cannot be written.
    pub fn open(file: &Path) -> Result<Self, Failure> {
        let opened = Self::try_open(file).or_else(|error| match error.sqlite_error_code() {
            // HQ's own cursors name their places without it, so a damaged history must not keep HQ out.
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                let aside = file.with_extension(format!("damaged-{}", Timestamp::now().file_name()));
                tracing::error!(%error, aside = %aside.display(), "the record of exports is damaged, is put aside and begins anew");
                durable::rename(file, &aside).map_err(|_| error)?;
                let anew = Self::try_open(file)?;
                anew.0.execute("INSERT INTO forgotten VALUES (?1)", [Timestamp::now().as_micros()])?;
                Ok(anew)
            }
            _ => Err(error),
        });
        opened.map_err(|error| {
            Failure::disk(format!("could not open {}: {error}; free some space and start again", file.display()))
        })
    }

    fn try_open(file: &Path) -> rusqlite::Result<Self> {
        let connection = readings::sqlite_file::open(file, BUSY, false)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(connection))
    }

    /// Notes durably, in one go, that a key asks for an export, which cut it has handed back, and the new cut that it will be
    /// told.
    pub fn begin(
        &mut self,
        asker: &Asker,
        back: Option<&Cut>,
        new: Option<(&str, u64)>,
    ) -> rusqlite::Result<Option<Cut>> {
        let transaction = self.0.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute(
            "INSERT INTO keys (key, asked_at, signed_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET asked_at = excluded.asked_at, signed_at = excluded.signed_at",
            params![asker.key, Timestamp::now().as_micros(), asker.signed_at.as_micros()],
        )?;
        if let Some(cut) = back {
            acknowledge(&transaction, asker.key, cut)?;
        }
        let cut = new.map(|(epoch, seq)| record(&transaction, epoch, seq)).transpose()?;
        transaction.commit()?;
        Ok(cut)
    }

    pub fn at(&self, period_end: Timestamp) -> rusqlite::Result<Option<Cut>> {
        self.one("SELECT period_end, epoch, seq FROM cuts WHERE period_end = ?1", params![period_end.as_micros()])
    }

    pub fn newest_at_or_before(&self, time: Timestamp) -> rusqlite::Result<Option<Cut>> {
        let query = "SELECT period_end, epoch, seq FROM cuts WHERE period_end <= ?1 ORDER BY period_end DESC LIMIT 1";
        self.one(query, params![time.as_micros()])
    }

    pub fn newest(&self) -> rusqlite::Result<Option<Cut>> {
        self.one("SELECT period_end, epoch, seq FROM cuts ORDER BY period_end DESC LIMIT 1", [])
    }

    /// The farthest that anybody was told of an epoch.
    pub fn farthest_in(&self, epoch: &str) -> rusqlite::Result<Option<u64>> {
        let seq: Option<i64> =
            self.0.query_row("SELECT max(seq) FROM cuts WHERE epoch = ?1", [epoch], |row| row.get(0))?;
        Ok(seq.map(unsigned))
    }

    pub fn acknowledged(&self, key: &str) -> rusqlite::Result<Option<Cut>> {
        let query =
            "SELECT cuts.period_end, epoch, seq FROM acknowledgements JOIN cuts USING (period_end) WHERE key = ?1";
        self.one(query, params![key])
    }

    /// An export to `key` has gone out whole.
    pub fn went_out(&self, key: &str) -> rusqlite::Result<()> {
        self.0.execute("UPDATE keys SET whole_at = ?2 WHERE key = ?1", params![key, Timestamp::now().as_micros()])?;
        Ok(())
    }

    /// Every key that ever asked, when an export last went out whole to any, and since when that is known.
    pub fn told(&self) -> rusqlite::Result<Exported> {
        let mut statement = self.0.prepare_cached(
            "SELECT key, asked_at, signed_at, cuts.epoch, cuts.seq FROM keys LEFT JOIN acknowledgements USING (key)
                 LEFT JOIN cuts USING (period_end) ORDER BY key",
        )?;
        let keys = statement.query_map([], |row| {
            let place: (Option<String>, Option<i64>) = (row.get(3)?, row.get(4)?);
            Ok(HqKey {
                key: row.get(0)?,
                asked_at: time(row.get(1)?)?,
                signed_at: time(row.get(2)?)?,
                acknowledged: place.0.zip(place.1).map(|(epoch, seq)| Acknowledged { epoch, seq: unsigned(seq) }),
            })
        })?;
        let whole_at = self.0.query_row("SELECT max(whole_at) FROM keys", [], |row| row.get::<_, Option<i64>>(0))?;
        Ok(Exported {
            keys: keys.collect::<Result<_, _>>()?,
            last_success: whole_at.map(time).transpose()?,
            forgot_at: self.forgot_at()?,
            rows_total: 0,
        })
    }

    /// When an earlier record was damaged and put aside, if one ever was.
    pub fn forgot_at(&self) -> rusqlite::Result<Option<Timestamp>> {
        let at = self.0.query_row("SELECT max(at) FROM forgotten", [], |row| row.get::<_, Option<i64>>(0))?;
        at.map(time).transpose()
    }

    /// Remembers the epochs of a database, so that a place in one that a restored database has lost can still be found.
    pub fn learn(&self, head: &Head) -> rusqlite::Result<()> {
        let mut parent: Option<&EpochStart> = None;
        for start in &head.epochs {
            self.0.execute(
                "INSERT INTO epochs VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                params![start.epoch, signed(start.first_seq), parent.map(|parent| &parent.epoch)],
            )?;
            parent = Some(start);
        }
        Ok(())
    }

    /// The place where an epoch began, told in the epoch before it.
    pub fn beginning_of(&self, epoch: &str) -> rusqlite::Result<Option<(String, u64)>> {
        let query = "SELECT parent, first_seq - 1 FROM epochs WHERE epoch = ?1 AND parent IS NOT NULL";
        self.0.query_row(query, [epoch], |row| Ok((row.get(0)?, unsigned(row.get(1)?)))).optional()
    }

    fn one(&self, query: &str, parameters: impl rusqlite::Params) -> rusqlite::Result<Option<Cut>> {
        self.0.query_row(query, parameters, cut).optional()
    }
}

fn record(transaction: &Transaction<'_>, epoch: &str, seq: u64) -> rusqlite::Result<Cut> {
    let newest: Option<i64> = transaction.query_row("SELECT max(period_end) FROM cuts", [], |row| row.get(0))?;
    let micros = Timestamp::now().as_micros().max(newest.map_or(i64::MIN, |newest| newest + 1));
    let period_end = time(micros)?;
    transaction.execute("INSERT INTO cuts VALUES (?1, ?2, ?3)", params![micros, epoch, signed(seq)])?;
    Ok(Cut { period_end, epoch: epoch.to_owned(), seq })
}

fn acknowledge(transaction: &Transaction<'_>, key: &str, cut: &Cut) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO acknowledgements VALUES (?1, ?2, ?3)
         ON CONFLICT (key) DO UPDATE SET period_end = max(period_end, excluded.period_end), at = excluded.at",
        params![key, cut.period_end.as_micros(), Timestamp::now().as_micros()],
    )?;
    Ok(())
}

fn cut(row: &Row<'_>) -> rusqlite::Result<Cut> {
    let period_end = time(row.get(0)?)?;
    Ok(Cut { period_end, epoch: row.get(1)?, seq: unsigned(row.get(2)?) })
}

fn time(micros: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_micros(micros).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, micros))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
impl Cuts {
    /// A new cut that nobody in particular has asked for.
    pub fn record(&mut self, epoch: &str, seq: u64) -> rusqlite::Result<Cut> {
        let asker = Asker { key: "anybody", signed_at: Timestamp::EPOCH };
        self.begin(&asker, None, Some((epoch, seq))).map(|cut| cut.expect("asked for"))
    }

    pub fn acknowledge(&mut self, key: &str, cut: &Cut) -> rusqlite::Result<()> {
        self.begin(&Asker { key, signed_at: Timestamp::EPOCH }, Some(cut), None).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn period_ends_rise_whatever_the_clock_does_and_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("exports.db");
        let mut cuts = Cuts::open(&file).unwrap();
        let ahead = Timestamp::parse("2099-01-01T00:00:00Z").unwrap();
        let first = cuts.record("a", 1).unwrap();
        cuts.0.execute("INSERT INTO cuts VALUES (?1, 'a', 2)", [ahead.as_micros()]).unwrap();
        let third = Cuts::open(&file).unwrap().record("b", 3).unwrap();
        assert_eq!(third.period_end.as_micros(), ahead.as_micros() + 1);
        assert_eq!(cuts.newest().unwrap(), Some(third));
        assert_eq!(cuts.at(first.period_end).unwrap(), Some(first.clone()));
        assert_eq!(
            cuts.newest_at_or_before(ahead.saturating_sub(std::time::Duration::from_micros(1))).unwrap(),
            Some(first)
        );
        assert_eq!(cuts.farthest_in("a").unwrap(), Some(2));
        assert_eq!(cuts.farthest_in("c").unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("exports.db");
        std::fs::write(&file, "no database at all, but longer than a header of one hundred bytes".repeat(9)).unwrap();
        Cuts::open(&file).unwrap().record("a", 1).unwrap();
        assert!(
            std::fs::read_dir(folder.path()).unwrap().any(|entry| entry
                .unwrap()
                .path()
                .to_string_lossy()
                .contains("damaged-"))
        );
    }

    #[test]
    fn keys_acknowledge_apart_and_never_backwards() {
        let folder = tempfile::tempdir().unwrap();
        let mut cuts = Cuts::open(&folder.path().join("exports.db")).unwrap();
        let (one, two) = (cuts.record("a", 1).unwrap(), cuts.record("a", 2).unwrap());
        cuts.acknowledge("hq", &two).unwrap();
        cuts.acknowledge("hq", &one).unwrap();
        cuts.acknowledge("hub", &one).unwrap();
        assert_eq!(cuts.acknowledged("hq").unwrap(), Some(two));
        assert_eq!(cuts.acknowledged("hub").unwrap(), Some(one));
        assert_eq!(cuts.acknowledged("other").unwrap(), None);
    }
}
