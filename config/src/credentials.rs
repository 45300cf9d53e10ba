use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use protocol::Failure;

use crate::mistake::{self, Mistake, Mistakes};

/// `config/credentials.env`: what only the watchdog may read; it hands each child what that child needs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub database_url: Option<String>,
    pub pin_hash: Option<String>,
}

impl Credentials {
    /// The environment comes first: that is how the watchdog hands them on, to programs that may not open the file. Without
    /// any file there are none.
    ///
    /// # Errors
    /// [`Mistakes`] for an unreadable file, an unknown key or a line without `=`.
    pub fn read(path: &Path) -> Result<Self, Mistakes> {
        let handed_on = std::env::var("DATABASE_URL").ok();
        let closed = File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        let mut read = if closed && handed_on.is_some() { Self::default() } else { Self::read_file(path)? };
        read.database_url = handed_on.or(read.database_url);
        read.pin_hash = std::env::var("CONFIG_PIN_HASH").ok().or(read.pin_hash);
        Ok(read)
    }

    /// What the file alone says.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_file(path: &Path) -> Result<Self, Mistakes> {
        match path.exists() {
            true => Self::parse(&mistake::read(path)?, &path.display().to_string()),
            false => Ok(Self::default()),
        }
    }

    /// The database, or what to do about there being none.
    ///
    /// # Errors
    /// If none is named.
    pub fn require_database_url(self) -> Result<String, Failure> {
        self.database_url.ok_or_else(|| {
            let example = "DATABASE_URL=sqlite:data/plant.db";
            Failure::configuration(format!("no database is named; set it in config/credentials.env, e.g. {example}"))
        })
    }

    /// `KEY=value` lines; a value is everything behind the first `=`, so that passwords may hold any character.
    fn parse(text: &str, file: &str) -> Result<Self, Mistakes> {
        let mut values = BTreeMap::new();
        let mut mistakes = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let what = match line.split_once('=') {
                None => "expected KEY=value".to_owned(),
                Some((key, value)) if matches!(key.trim(), "DATABASE_URL" | "CONFIG_PIN_HASH") => {
                    values.insert(key.trim(), value.trim().to_owned());
                    continue;
                }
                Some((key, _)) => format!("unknown key {}; known are DATABASE_URL, CONFIG_PIN_HASH", key.trim()),
            };
            mistakes.push(Mistake { file: file.to_owned(), line: Some(at + 1), what });
        }
        if mistakes.is_empty() {
            Ok(Self { database_url: values.remove("DATABASE_URL"), pin_hash: values.remove("CONFIG_PIN_HASH") })
        } else {
            Err(Mistakes(mistakes))
        }
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let line = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{key}={value}\n")).unwrap_or_default()
        };
        line("DATABASE_URL", &self.database_url) + &line("CONFIG_PIN_HASH", &self.pin_hash)
    }
}

/// Never the values.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Credentials(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_may_hold_any_character() {
        let odd = Credentials {
            database_url: Some("postgres://u:p%40#= x@h/db".into()),
            pin_hash: Some("$argon2id$v=19$m=1".into()),
        };
        assert_eq!(Credentials::parse(&odd.to_text(), "credentials.env").unwrap(), odd);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let mistakes = Credentials::parse("# secrets\nDATABASE_URI=x\n", "credentials.env").unwrap_err();
        assert_eq!(
            mistakes.to_string(),
            "credentials.env:2: unknown key DATABASE_URI; known are DATABASE_URL, CONFIG_PIN_HASH"
        );
    }
}
