use protocol::{Exit, Failure};

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not there, or gone in the middle; worth trying again.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// Trying again does not help; a person has to change something.
    #[error("{0}")]
    Configuration(String),
    /// Its tables are not the ones that this program knows.
    #[error("the database's schema is not this program's: {0}")]
    Schema(String),
    /// No room, or the disk fails.
    #[error("the database has no room or its disk fails: {0}")]
    Disk(String),
    /// A batch that begins behind the position the database knows: the database is not what its writer left.
    #[error("the database is at position {found} of writer {writer}, not at {expected}")]
    Position { writer: String, expected: u64, found: u64 },
    /// The database takes other readings, but minds something in one of these.
    #[error("the database does not take a value: {0}")]
    Value(String),
    /// The database said no to this statement.
    #[error("the database refused: {0}")]
    Refused(String),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match error {
            StoreError::Unreachable(_) => Exit::Unreachable,
            StoreError::Configuration(_) | StoreError::Schema(_) => Exit::Configuration,
            StoreError::Disk(_) => Exit::Disk,
            StoreError::Position { .. } => Exit::Integrity,
            StoreError::Refused(_) | StoreError::Value(_) => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Unreachable(text),
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Self::Disk(text),
            Some(
                ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::PermissionDenied | ErrorCode::ReadOnly,
            ) => Self::Configuration(text),
            // A constraint or a trigger of somebody's.
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => Self::Value(text),
            _ => Self::Refused(text),
        }
    }
}

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> Self {
        use std::error::Error as _;
        let Some(refusal) = error.as_db_error() else {
            // The library's own text is only the stage ("error connecting to server"); the reason is its source.
            let reason = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            return Self::Unreachable(format!("{error}{reason}"));
        };
        Self::refused(refusal.code().code(), refusal.message(), refusal.detail())
    }
}

impl StoreError {
    /// What PostgreSQL's refusal means: the code's classes are those of its appendix A.
    pub(crate) fn refused(code: &str, message: &str, detail: Option<&str>) -> Self {
        let text = match detail {
            Some(detail) => format!("{message} ({detail})"),
            None => message.to_owned(),
        };
        match code {
            // Too many connections; a lock that an old session still holds.
            "53300" | "55P03" => return Self::Unreachable(text),
            "42501" => {
                return Self::Configuration(format!(
                    "PostgreSQL says: {text}; the user in DATABASE_URL needs that right"
                ));
            }
            _ => {}
        }
        match code.get(..2).unwrap_or_default() {
            "08" | "57" => Self::Unreachable(text),
            "53" | "58" => Self::Disk(text),
            "28" | "3D" => {
                Self::Configuration(format!("PostgreSQL says: {text}; check DATABASE_URL in config/credentials.env"))
            }
            "42" => Self::Schema(text),
            // Of the value's form, of a constraint, of a size (a name too long for its index), of a trigger.
            "22" | "23" | "54" | "P0" => Self::Value(text),
            _ => Self::Refused(text),
        }
    }
}

impl From<std::io::Error> for StoreError {
    /// What writing into a `COPY` returns.
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<postgres::Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::Unreachable(error.to_string()),
        }
    }
}
