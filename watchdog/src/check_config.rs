//! `watchdog check-config`: every mistake there is, before a restart finds the first.

use config::{Credentials, InstallRoot, Mistakes, Settings, Sources};
use daemon::server::Certificate;
use protocol::Failure;
use protocol::signing::PublicKey;
use updater::boot_record::BootRecord;
use updater::trusted_keys;

use crate::on_site::no_root;
use crate::{certificate, license};

/// Prints every mistake in the configuration.
///
/// # Errors
/// If there is one.
pub fn check_config(root: &InstallRoot) -> Result<(), Failure> {
    if !root.config_file().exists() && !root.boot_record().exists() {
        return Err(no_root(root));
    }
    let mut found = Vec::new();
    let mut note = |mistakes: Mistakes| found.extend(mistakes.0.iter().map(ToString::to_string));
    let (settings, mistakes) = Settings::read_as_far(root);
    mistakes.into_iter().for_each(&mut note);
    let credentials = Credentials::read(&root.credentials_file()).map_err(&mut note).ok();
    Sources::check(root).map_err(&mut note).ok();
    let database = credentials.map(|credentials| {
        let url = credentials.require_database_url()?;
        readings::check_url(&url, root.path())
            .map_err(|error| Failure::configuration(format!("{}: {error}", root.credentials_file().display())))
    });
    if let Some(Err(failure)) = database {
        found.push(failure.message);
    }
    if let Err(error) = PublicKey::read_all(&root.resolve(&settings.server_public_key_file)) {
        found.push(error.to_string());
    }
    let record = BootRecord::read(&root.boot_record()).map_err(Failure::configuration);
    if let Err(failure) = record.and_then(|record| trusted_keys::read(root, &settings, &record)) {
        found.push(failure.message);
    }
    if let Err(error) = license::check(root, &settings) {
        found.push(error);
    }
    let [certificate, key] = [&settings.agent_cert_file, &settings.agent_key_file].map(|file| root.resolve(file));
    let agent = Certificate::load(&certificate, &key).map(drop);
    let pairs = [agent, certificate::check_of_portal(root, &settings)];
    found.extend(pairs.into_iter().filter_map(Result::err).map(|failure| failure.message));
    for mistake in &found {
        println!("{mistake}");
    }
    match found.len() {
        0 => {
            println!("no mistake found");
            Ok(())
        }
        count => Err(Failure::configuration(format!("{count} to mend in {}", root.path().display()))),
    }
}
