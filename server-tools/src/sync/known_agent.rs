//! Is it the agent that we knew? The key counts; a certificate renewed on the same key is no event.

use protocol::Failure;

use super::Pull;
use super::archive::Folder;
use super::report::Progress;

/// Compares the key that the agent holds with the one that was given or remembered.
pub fn check(pull: &Pull, found: &str, folder: &Folder, progress: &Progress) -> Result<(), Failure> {
    let file = folder.fingerprint_file();
    let remembered = folder.fingerprint()?;
    let host = &pull.plant.host;
    if let Some(given) = &pull.plant.fingerprint {
        if given != found {
            return Err(Failure::refused(format!(
                "the agent at {host} has the key {found}, not {given} as --fingerprint or the fleet file says; nothing was sent"
            )));
        }
        if remembered.as_deref() != Some(found) {
            folder.remember_fingerprint(found)?;
        }
        return Ok(());
    }
    match remembered {
        Some(known) if known == found => Ok(()),
        Some(known) => Err(Failure::refused(format!(
            "the agent at {host} has another key than before ({found}, before {known}): somebody may be in between; nothing was sent. \
             If the plant PC was set up anew, compare the key on site and accept it once with --fingerprint {found} (in a fleet file: fingerprint), or remove {}",
            file.display()
        ))),
        None if pull.strict => Err(Failure::refused(format!(
            "the agent at {host} is not known yet and --strict asks for it; compare its key on site and give it with --fingerprint {found}, or in the fleet file"
        ))),
        None => {
            folder.remember_fingerprint(found)?;
            progress.note(&format!(
                "first contact with {host}: its key {found} is remembered in {}. This trusts the network once; compare the key on site to be sure.",
                file.display()
            ));
            Ok(())
        }
    }
}
