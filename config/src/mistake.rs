use std::fmt;

use protocol::Failure;

/// One mistake in something that a person wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, or the environment variable.
    pub file: String,
    /// Counted from one; `None` where the whole file is meant.
    pub line: Option<usize>,
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}: {}", self.file, self.what),
            None => write!(formatter, "{}: {}", self.file, self.what),
        }
    }
}

/// At least one [`Mistake`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    /// One line: the first, and how many more there are.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => Ok(()),
            [only] => only.fmt(formatter),
            [first, rest @ ..] => {
                write!(
                    formatter,
                    "{first} (and {} more; `watchdog check-config --root DIR` lists them all)",
                    rest.len()
                )
            }
        }
    }
}

impl std::error::Error for Mistakes {}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::configuration(mistakes)
    }
}

/// A file that cannot be read is a mistake like another.
pub(crate) fn read(path: &std::path::Path) -> Result<String, Mistakes> {
    std::fs::read_to_string(path).map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::NotFound => "does not exist; `watchdog init` makes one".to_owned(),
            std::io::ErrorKind::PermissionDenied => {
                "may not be read by this user; call this as the one whom the install root belongs to".to_owned()
            }
            _ => format!("could not be read: {error}"),
        };
        Mistake { file: path.display().to_string(), line: None, what }.into()
    })
}
