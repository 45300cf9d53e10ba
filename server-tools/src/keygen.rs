//! Three pairs of keys: who opens sessions, who signs packages, who signs licences.

use std::path::Path;

use durable::Access;
use indicatif::{ProgressBar, ProgressStyle};
use protocol::Failure;
use protocol::signing::PrivateKey;

/// The prefix of each pair's files, and what it is for.
const PAIRS: [(&str, &str); 3] =
    [("", "opens sessions"), ("update_", "signs packages"), ("license_", "signs licences")];

/// Writes the three pairs into `out`; a key that is there already is never touched.
///
/// # Errors
/// A key in the way, or a folder that cannot be written.
pub fn keygen(out: &Path, bits: usize, passphrase: Option<&str>) -> Result<(), Failure> {
    std::fs::create_dir_all(out).map_err(|error| durable::name_error("create", out, error))?;
    for (prefix, _) in PAIRS {
        for half in ["private", "public"] {
            let path = out.join(format!("{prefix}{half}.pem"));
            if path.exists() {
                let what = "is there already and is not overwritten; give another --out, or move it away";
                return Err(Failure::failed(format!("{} {what}", path.display())));
            }
        }
    }
    let progress = ProgressBar::new_spinner();
    progress.set_style(
        ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    progress.enable_steady_tick(std::time::Duration::from_millis(100));
    for (at, (prefix, purpose)) in PAIRS.iter().enumerate() {
        progress.set_message(format!("making key {} of {}: {purpose}", at + 1, PAIRS.len()));
        let key = PrivateKey::generate(bits)?;
        let (private, public) = (out.join(format!("{prefix}private.pem")), out.join(format!("{prefix}public.pem")));
        durable::create_new(&private, key.to_pem(passphrase).as_bytes(), Access::Private)?;
        durable::create_new(&public, key.public_key().to_pem().as_bytes(), Access::Shared)?;
        progress.suspend(|| println!("{:<32} {purpose}", private.display()));
    }
    progress.finish_and_clear();
    Ok(())
}
