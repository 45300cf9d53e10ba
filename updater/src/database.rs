//! Which database belongs to the version that runs: the configured one, or what an update has made of it.

use std::path::{Path, PathBuf};

use config::{Credentials, InstallRoot};
use protocol::Failure;
use protocol::signing::hex;
use readings::{Place, Store, StoreError};
use sha2::{Digest as _, Sha256};

use crate::boot_record::{BootRecord, BootRecordError, Database};
use crate::package::Dialect;

/// A database as it is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveDatabase {
    pub url: String,
    pub schema: Option<String>,
}

impl ActiveDatabase {
    /// The database of the version that runs in this root.
    ///
    /// # Errors
    /// No database is named, or the boot record cannot be read.
    pub fn of(root: &InstallRoot) -> Result<Self, Failure> {
        let configured = Credentials::read(&root.credentials_file())?.require_database_url()?;
        match BootRecord::read(&root.boot_record()) {
            Ok(record) => Ok(Self::named(&configured, record.running_database())),
            // A program that was started by hand, without a watchdog's root.
            Err(BootRecordError::Missing) => Ok(Self::named(&configured, None)),
            Err(error) => Err(Failure::configuration(error)),
        }
    }

    /// What `database` makes of the configured URL. One that stands for another URL means nothing: a person has since
    /// named another database.
    pub fn named(configured: &str, database: Option<&Database>) -> Self {
        let database = database.filter(|database| database.configured == hash(configured));
        let file = database.and_then(|database| database.file.as_ref());
        Self {
            url: file.map_or_else(|| configured.to_owned(), |file| format!("sqlite:{file}")),
            schema: database.map(|database| database.schema.clone()),
        }
    }

    /// # Errors
    /// [`StoreError`], of them [`StoreError::Schema`] for a schema that is not the running version's.
    pub fn open(&self, root: &Path) -> Result<Box<dyn Store>, StoreError> {
        readings::open_as(&self.url, root, self.schema.as_deref())
    }

    /// # Errors
    /// [`StoreError::Configuration`] for a URL of no known kind.
    pub fn dialect(&self, root: &Path) -> Result<Dialect, StoreError> {
        Ok(match readings::place(&self.url, root)? {
            Place::Sqlite(_) => Dialect::Sqlite,
            Place::Postgres => Dialect::Postgres,
        })
    }
}

/// What an attempt's database is called in the boot record.
pub fn record(configured: &str, file: Option<String>, schema: String) -> Database {
    Database { configured: hash(configured), file, schema }
}

/// The file that attempt `number` makes of a SQLite database: beside the configured one, under a name that never comes
/// again, since numbers of attempts only rise.
pub fn copy_for(configured: &Path, number: u64) -> PathBuf {
    let ending = configured.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    let stem = configured.file_stem().unwrap_or_default().to_string_lossy();
    configured.with_file_name(format!("{stem}.{number}{ending}"))
}

fn hash(url: &str) -> String {
    hex(&Sha256::digest(url.as_bytes()))
}
