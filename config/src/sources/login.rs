//! Who a device lets in.

use std::path::{Path, PathBuf};

use super::checks::Checks;
use super::table::Table;
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
            Password::File(file) => password_of(&root.resolve(file)),
        }
    }

    /// Of the keys `user`, `password` and `password_file`.
    pub(super) fn take<'t>(table: &mut Table<'t>, checks: &mut Checks<'t>) -> Option<Self> {
        let user = table.text("user", checks);
        let password = table.text("password", checks);
        let password_file = table.file("password_file", checks);
        checks.check_file("password_file", password_file.as_ref(), password_of);
        if let (Some(password), Some(_)) = (&password, &password_file) {
            checks.wrong(password, "password: there is a password_file as well".to_owned());
        }
        match (&user, &password, &password_file) {
            (None, Some(password), _) => checks.wrong(password, "password: it needs a user".to_owned()),
            (None, None, Some(file)) => checks.wrong(file, "password_file: it needs a user".to_owned()),
            _ => {}
        }
        let password = match (password, password_file) {
            (Some(text), _) => Password::Text(text.into_inner()),
            (None, Some(file)) => Password::File(file.into_inner()),
            (None, None) => Password::Text(String::new()),
        };
        user.map(|user| Self { user: user.into_inner(), password })
    }
}

fn password_of(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}
