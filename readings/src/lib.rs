//! Readings, and the one place where they are kept and ordered.
//!
//! [`open`] is given a database URL and returns a [`Store`]: SQLite or PostgreSQL behind one small trait. Readings go in
//! as [`Batch`]es, each exactly once however often it is retried, and come out by ranges of `seq`, in the order in which
//! they were committed. ARCHITECTURE.md, "Readings: order, batches, epochs", says why that order can be relied on.

mod cursor;
mod error;
pub mod export;
mod line;
pub mod migrate;
mod migrations;
mod postgres_copy;
mod postgres_store;
mod postgres_url;
mod reading;
mod retention;
mod rollup;
mod sqlite_store;
mod store;
mod tags;
mod trend;

use std::path::{Path, PathBuf};

pub use cursor::Cursor;
pub use error::StoreError;
pub use line::{LineError, parse_line, write_line};
pub use migrations::Schema;
#[doc(hidden)]
pub use postgres_copy::fuzz_answer;
pub use reading::{Quality, Reading};
pub use retention::{Retirement, condense};
pub use rollup::{Rollup, Values};
pub use sqlite_store::file as sqlite_file;
pub use store::{Appended, Batch, EpochStart, Head, Row, Span, Store};
pub use trend::{Trend, TrendQuery};

/// Opens the database that a `DATABASE_URL` names and lays its schema if it has none.
///
/// `sqlite:PATH` (relative paths from `root`), `postgres://…` or PostgreSQL's `host=… dbname=…` form.
///
/// # Errors
/// [`StoreError`], in words that name the database but never its password.
pub fn open(url: &str, root: &Path) -> Result<Box<dyn Store>, StoreError> {
    open_as(url, root, &Schema::BuiltIn)
}

/// [`open`]s a database of this schema; an update may have made it ([`migrate::Migrated::schema`]).
///
/// # Errors
/// [`StoreError`], of them [`StoreError::Schema`] for a database of any other schema.
pub fn open_as(url: &str, root: &Path, schema: &Schema) -> Result<Box<dyn Store>, StoreError> {
    match place(url, root)? {
        Place::Sqlite(path) => Ok(Box::new(sqlite_store::SqliteStore::open(&path, schema)?)),
        Place::Postgres => Ok(Box::new(postgres_store::PostgresStore::open(url, schema)?)),
    }
}

/// Which kind of database a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Sqlite(PathBuf),
    Postgres,
}

/// # Errors
/// [`StoreError::Configuration`] for a URL that is neither.
pub fn place(url: &str, root: &Path) -> Result<Place, StoreError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        return Ok(Place::Sqlite(root.join(path.strip_prefix("//").unwrap_or(path))));
    }
    if postgres_url::is_postgres(url) {
        return Ok(Place::Postgres);
    }
    let scheme = url.split(':').next().unwrap_or_default();
    Err(StoreError::Configuration(format!(
        "DATABASE_URL begins with `{scheme}`; write sqlite:data/plant.db or postgres://user:password@host/database"
    )))
}

/// As [`place`], and looks at all of the URL, and at the certificate that it names.
///
/// # Errors
/// [`StoreError::Configuration`].
pub fn check_url(url: &str, root: &Path) -> Result<Place, StoreError> {
    let place = place(url, root)?;
    if place == Place::Postgres {
        postgres_url::parse(url)?;
    }
    Ok(place)
}

/// The URL as it may be shown: without its password.
pub fn shown_url(url: &str) -> String {
    if postgres_url::is_postgres(url) { postgres_url::shown(url) } else { url.to_owned() }
}
