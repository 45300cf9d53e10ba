//! Readings, and the one place where they are kept and ordered.
//!
//! [`open`] is given a database URL and returns a [`Store`]: SQLite or PostgreSQL behind one small trait. Readings go in
//! as [`Batch`]es, each exactly once however often it is retried, and come out by ranges of `seq`, in the order in which
//! they were committed. ARCHITECTURE.md, "Readings: order, batches, epochs", says why that order can be relied on.

mod cursor;
mod error;
mod line;
mod migrations;
mod postgres_store;
mod postgres_url;
mod reading;
mod sqlite_store;
mod store;

use std::path::Path;

pub use cursor::Cursor;
pub use error::StoreError;
pub use line::{LineError, parse_line, write_line};
pub use reading::{Quality, Reading};
pub use store::{Appended, Batch, EpochStart, Head, Row, Span, Store};

/// Opens the database that a `DATABASE_URL` names and lays its schema if it has none.
///
/// `sqlite:PATH` (relative paths from `root`), `postgres://…` or PostgreSQL's `host=… dbname=…` form.
///
/// # Errors
/// [`StoreError`], in words that name the database but never its password.
pub fn open(url: &str, root: &Path) -> Result<Box<dyn Store>, StoreError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = root.join(path.strip_prefix("//").unwrap_or(path));
        return Ok(Box::new(sqlite_store::SqliteStore::open(&path)?));
    }
    if postgres_url::is_postgres(url) {
        return Ok(Box::new(postgres_store::PostgresStore::open(url)?));
    }
    let scheme = url.split(':').next().unwrap_or_default();
    Err(StoreError::Configuration(format!(
        "DATABASE_URL begins with `{scheme}`; write sqlite:data/plant.db or postgres://user:password@host/database"
    )))
}

/// The URL as it may be shown: without its password.
pub fn shown_url(url: &str) -> String {
    if postgres_url::is_postgres(url) { postgres_url::shown(url) } else { url.to_owned() }
}
