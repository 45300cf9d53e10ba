//! Who a device lets in.

use std::path::PathBuf;

use toml::Spanned;

use super::checks::Checks;
use crate::InstallRoot;

/// A user, and a password that may stand in a file of its own, so that `sources.toml` can be shown to anybody.
#[derive(Clone, PartialEq)]
pub struct Login {
    pub user: String,
    password: Password,
}

#[derive(Clone, PartialEq)]
enum Password {
    Text(String),
    /// Relative to the root.
    File(PathBuf),
}

impl Login {
    /// Read again each time: it may have been put right.
    ///
    /// # Errors
    /// In words that name the file.
    pub fn password(&self, root: &InstallRoot) -> Result<String, String> {
        match &self.password {
            Password::Text(text) => Ok(text.clone()),
            Password::File(file) => {
                let file = root.resolve(file);
                let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
        }
    }

    /// Of the keys `user`, `password` and `password_file`.
    pub(super) fn check(
        user: Option<String>,
        password: Option<Spanned<String>>,
        password_file: Option<PathBuf>,
        checks: &mut Checks<'_>,
    ) -> Option<Self> {
        if let (Some(password), Some(_)) = (&password, &password_file) {
            checks.wrong(password, "password: there is a password_file as well".to_owned());
        }
        if let (Some(password), None) = (&password, &user) {
            checks.wrong(password, "password: it needs a user".to_owned());
        }
        let password = match (password, password_file) {
            (Some(text), _) => Password::Text(text.into_inner()),
            (None, Some(file)) => Password::File(file),
            (None, None) => Password::Text(String::new()),
        };
        user.map(|user| Self { user, password })
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}
