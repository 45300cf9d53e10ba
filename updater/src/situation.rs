//! What a package is judged against on this plant PC.

use config::{InstallRoot, Settings, Unbound};
use protocol::{Failure, Timestamp};
use semver::Version;

use crate::boot_record::BootRecord;
use crate::database::ActiveDatabase;
use crate::package::{Limits, Platform, Situation, Trust};
use crate::trusted_keys::TrustedKeys;
use crate::trusted_time::TrustedTime;
use crate::{pending, trusted_keys};

/// The format's limits, and the plant's own bound on a package's size.
pub fn limits(settings: &Settings) -> Limits {
    let package_bytes = settings.update_max_bytes.min(Limits::DEFAULT.package_bytes);
    Limits { package_bytes, ..Limits::DEFAULT }
}

/// Who is trusted here, what runs here, what ran here, what waits, and what time it is.
///
/// # Errors
/// A boot record or configuration that cannot be used.
pub fn situation(root: &InstallRoot, settings: &Settings, record: &BootRecord) -> Result<(Trust, Situation), Failure> {
    let database = ActiveDatabase::of(root)?;
    let TrustedKeys { trust, version: keys_version, session_keys } = trusted_keys::read(root, settings, record)?;
    let situation = Situation {
        running: version_of(&record.current)?,
        running_id: record.current.clone(),
        floor: record.floor.clone(),
        waiting: pending::program(root).and_then(|pending| Version::parse(&pending.version).ok()),
        platform: Platform::here(),
        time: TrustedTime::read(root, Timestamp::now()),
        allow_unbound: settings.update_unbound == Unbound::Allow,
        dialect: database.dialect(root.path())?,
        keys_version,
        session_keys,
    };
    Ok((trust, situation))
}

/// The version in a version directory's name.
///
/// # Errors
/// A name of another form.
pub fn version_of(id: &str) -> Result<Version, Failure> {
    let version = id.rsplit_once('-').and_then(|(version, _)| Version::parse(version).ok());
    version.ok_or_else(|| Failure::configuration(format!("`{id}` is no version directory's name")))
}
