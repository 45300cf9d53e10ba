//! `watchdog reset-pin`: on site, by whoever may write the root; forgets the wrong PINs as well.

use config::{Credentials, InstallRoot};
use durable::Access;
use protocol::Failure;

use crate::init::{hash_pin, new_pin};
use crate::on_site::no_root;

/// Sets another PIN and prints it if it was made here. What runs takes it up at once.
///
/// # Errors
/// No install root, or a file that cannot be written.
pub fn reset_pin(root: &InstallRoot, pin: Option<String>) -> Result<(), Failure> {
    if !root.boot_record().exists() {
        return Err(no_root(root));
    }
    let new = pin.clone().unwrap_or_else(new_pin);
    set_pin(root, &new)?;
    durable::remove(&root.pin_failures())?;
    match pin {
        Some(_) => println!("the operator's PIN is changed"),
        None => println!("the operator's PIN is {new}; it is shown only this once"),
    }
    Ok(())
}

/// # Errors
/// A file that cannot be read or written.
pub(crate) fn set_pin(root: &InstallRoot, pin: &str) -> Result<(), Failure> {
    let file = root.credentials_file();
    // Of the file alone: what the environment says is not to be written there.
    let mut credentials = Credentials::read_file(&file)?;
    credentials.pin_hash = Some(hash_pin(pin)?);
    Ok(durable::replace(&file, credentials.to_text().as_bytes(), Access::Private)?)
}
