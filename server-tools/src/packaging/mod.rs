//! `publish`: from files to a signed update package.

mod base;
mod gather;
pub mod inspect;
pub mod keys;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use indicatif::{ProgressBar, ProgressStyle};
use protocol::signing::{PrivateKey, PublicKey};
use protocol::{Failure, Timestamp};
use updater::package::{self, Contents, FORMAT, Kind, Manifest, PRODUCT, PackError, Packed, Platform, parse_version};

use base::Base;

/// What is asked of `publish`.
#[derive(Clone, Debug, Default)]
pub struct Order {
    pub version: String,
    pub files: Vec<PathBuf>,
    /// What `files` are named from.
    pub base: PathBuf,
    pub remove: Vec<String>,
    pub migrations: Vec<PathBuf>,
    pub notes: String,
    pub out: PathBuf,
    /// Version directories or complete packages that the package may be put on.
    pub onto: Vec<PathBuf>,
    pub complete: bool,
    pub min_version: Option<String>,
    pub platform: Option<String>,
    pub created: Option<Timestamp>,
    pub expires: Option<Timestamp>,
}

/// What came of it.
pub struct Published {
    pub path: PathBuf,
    pub packed: Packed,
    pub warnings: Vec<String>,
}

/// Packs, signs and writes `OUT/update_v<version>.zip`.
///
/// # Errors
/// What plants would refuse, or what cannot be read or written.
pub fn publish(order: &Order, keys: &[PrivateKey], quiet: bool) -> Result<Published, Failure> {
    let version = parse_version(&order.version).map_err(Failure::usage)?;
    let min_version = order.min_version.as_deref().map(parse_version).transpose().map_err(Failure::usage)?;
    let contents = Contents {
        files: gather::files(&order.base, &order.files)?,
        migrations: gather::migrations(&order.migrations)?,
    };
    if contents.files.is_empty() && contents.migrations.is_empty() && order.remove.is_empty() {
        return Err(Failure::usage("there is nothing to pack; name what is new with --files"));
    }
    let mut programs = contents.files.iter().filter(|(_, _, executable)| *executable).map(|(name, ..)| name.as_str());
    // On Windows a program is known by its name alone, so that is sure; others are taken for this system's.
    let usual = match programs.next() {
        None => Platform::ANY.to_owned(),
        Some(first) if programs.chain([first]).all(|name| name.ends_with(".exe")) => "windows-x86_64".to_owned(),
        Some(_) => Platform::here(),
    };
    let mut manifest = Manifest {
        format: FORMAT,
        kind: Kind::Program,
        product: PRODUCT.to_owned(),
        version: version.clone(),
        platform: platform(order, usual)?,
        created: created(order, &contents)?,
        files: gather::listed(&contents)?,
        migrations: Vec::new(),
        notes: order.notes.clone(),
        remove: order.remove.clone(),
        expires: order.expires,
        min_version,
        base: None,
        result_tree: None,
        complete: order.complete,
        keys_version: None,
        keys: None,
    };
    let bases = order.onto.iter().map(|onto| Base::read(onto)).collect::<Result<Vec<_>, _>>()?;
    base::bind(&mut manifest, &bases)?;
    let warnings = warnings(order, &contents);
    write(manifest, &contents, keys, &order.out, quiet, warnings)
}

fn write(
    manifest: Manifest,
    contents: &Contents,
    keys: &[PrivateKey],
    out: &Path,
    quiet: bool,
    warnings: Vec<String>,
) -> Result<Published, Failure> {
    std::fs::create_dir_all(out).map_err(|error| durable::name_error("create", out, error))?;
    let path = out.join(format!("update_v{}.zip", manifest.version));
    let bar = bar(&manifest, quiet);
    let packed = package::pack(manifest, contents, keys, &path, |bytes| bar.inc(bytes));
    let packed = packed.map_err(|error| not_written(error, &path))?;
    bar.finish_and_clear();
    Ok(Published { path, packed, warnings })
}

fn not_written(error: PackError, path: &Path) -> Failure {
    match error {
        PackError::File(error) => error.into(),
        PackError::Refused(refusal) => Failure::usage(format!("no plant would take this package: {refusal}")),
        PackError::Zip(error) => Failure::disk(format!("could not write {}: {error}", path.display())),
    }
}

fn platform(order: &Order, usual: String) -> Result<String, Failure> {
    let platform = order.platform.clone().unwrap_or(usual);
    match Platform::ALL.contains(&platform.as_str()) {
        true => Ok(platform),
        false => {
            Err(Failure::usage(format!("there is no platform `{platform}`; give one of {}", Platform::ALL.join(", "))))
        }
    }
}

/// The newest input's time, so that the same inputs give the same package whenever it is made.
fn created(order: &Order, contents: &Contents) -> Result<Timestamp, Failure> {
    if let Some(created) = order.created {
        return Ok(created);
    }
    let inputs = contents.files.iter().map(|(_, file, _)| file).chain(contents.migrations.iter().map(|(_, file)| file));
    newest(inputs)
}

fn newest<'a>(inputs: impl Iterator<Item = &'a PathBuf>) -> Result<Timestamp, Failure> {
    let mut newest = Timestamp::EPOCH;
    for file in inputs {
        let modified = std::fs::metadata(file).and_then(|metadata| metadata.modified());
        let modified = modified.map_err(|error| durable::name_error("read", file, error))?;
        let micros = modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros());
        newest = newest.max(i64::try_from(micros).ok().and_then(Timestamp::from_micros).unwrap_or(Timestamp::EPOCH));
    }
    Ok(newest)
}

fn warnings(order: &Order, contents: &Contents) -> Vec<String> {
    let mut warnings = Vec::new();
    if order.onto.is_empty() && !order.complete {
        warnings.push(
            "the package is unbound: nothing checks that what comes out on a plant is what you have tried; \
             name what it is made for with --onto, or pack a whole version with --complete"
                .to_owned(),
        );
    }
    let names: Vec<&str> = contents.migrations.iter().map(|(name, _)| name.as_str()).collect();
    for name in names.iter().filter(|name| !name.ends_with(".down.sql") && !name.ends_with(".sqlite.sql")) {
        let down = format!("{}.down.sql", name.trim_end_matches(".sql"));
        if !names.contains(&down.as_str()) {
            warnings.push(format!("plants with PostgreSQL will refuse it (no_down): {name} has no {down}"));
        }
    }
    warnings
}

fn bar(manifest: &Manifest, quiet: bool) -> ProgressBar {
    let bytes = manifest.files.iter().map(|file| file.size).sum();
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(bytes) };
    let style = ProgressStyle::with_template("packing {bar:30} {bytes}/{total_bytes} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Keygen lays three pairs side by side: a key that lies beside others' public halves is not taken for theirs.
///
/// # Errors
/// If it is the key that opens sessions or signs licences.
pub fn check_key(file: &Path, key: &PrivateKey) -> Result<(), Failure> {
    for (public, purpose) in [("public.pem", "opens sessions"), ("license_public.pem", "signs licences")] {
        let public = file.with_file_name(public);
        if public.exists() && PublicKey::read(&public)?.id() == key.public_key().id() {
            let what = format!("is the key that {purpose}, and no plant takes a package signed with it");
            return Err(Failure::usage(format!("{} {what}; give update_private.pem", file.display())));
        }
    }
    Ok(())
}
