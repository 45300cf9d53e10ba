//! Which database belongs to the version that runs: the configured one, or what an update has made of it.

use std::path::{Path, PathBuf};

use config::{Credentials, InstallRoot};
use protocol::Failure;
use protocol::signing::hex;
use readings::{Place, Schema, Store, StoreError};
use sha2::{Digest as _, Sha256};

use crate::boot_record::{Attempt, BootRecord, BootRecordError, Database};
use crate::package::Dialect;

/// A database as it is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveDatabase {
    pub url: String,
    pub schema: Schema,
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

    /// What `database` makes of the configured URL. Under another URL than the one it stands for, its file means nothing:
    /// a person has since named another database, or the same one by another password or name.
    pub fn named(configured: &str, database: Option<&Database>) -> Self {
        let Some(database) = database else { return Self { url: configured.to_owned(), schema: Schema::BuiltIn } };
        if !database.is_of(configured) {
            return Self { url: configured.to_owned(), schema: Schema::Any(database.schema.clone()) };
        }
        let file = database.file.as_ref();
        Self {
            url: file.map_or_else(|| configured.to_owned(), |file| format!("sqlite:{file}")),
            schema: Schema::Updated(database.schema.clone()),
        }
    }

    /// # Errors
    /// [`StoreError`], of them [`StoreError::Schema`] for a schema that is not the running version's.
    pub fn open(&self, root: &Path) -> Result<Box<dyn Store>, StoreError> {
        readings::open_as(&self.url, root, &self.schema)
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
    // As in any URL, whatever the system's own separator.
    let file = file.map(|file| if cfg!(windows) { file.replace('\\', "/") } else { file });
    Database { configured: hash(configured), file, schema }
}

/// The file that an attempt makes of a SQLite database: beside the configured one, under a name that never comes again,
/// also where a root is laid out anew.
pub fn copy_for(configured: &Path, attempt: &Attempt) -> PathBuf {
    let ending = configured.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    let stem = configured.file_stem().unwrap_or_default().to_string_lossy();
    let (number, id) = (attempt.number, attempt.id.get(..8).unwrap_or(&attempt.id));
    configured.with_file_name(format!("{stem}.{number}-{id}{ending}"))
}

impl Database {
    /// Whether it stands for this configured URL.
    pub fn is_of(&self, configured: &str) -> bool {
        self.configured == hash(configured)
    }
}

/// A SQLite database and what SQLite keeps beside it; the database last, so that none is left that lacks its log.
pub fn files_of(path: &Path) -> [PathBuf; 4] {
    ["-wal", "-shm", "-journal", ""].map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    })
}

/// The files that [`copy_for`] has named.
pub fn copies_of(configured: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(stem)) = (configured.parent(), configured.file_stem()) else { return Vec::new() };
    let ending = configured.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    let stem = format!("{}.", stem.to_string_lossy());
    let is_copy = |name: &str| {
        let middle = name.strip_prefix(&stem).and_then(|rest| rest.strip_suffix(&ending));
        middle.and_then(|middle| middle.split_once('-')).is_some_and(|(number, id)| {
            number.parse::<u64>().is_ok() && id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_copy)).map(|entry| entry.path()).collect()
}

fn hash(url: &str) -> String {
    hex(&Sha256::digest(url.as_bytes()))
}
