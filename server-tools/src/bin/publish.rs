//! `publish`: is given what belongs into something signed, and the key to sign it with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use protocol::license::License;
use protocol::signing::PrivateKey;
use protocol::{Failure, Timestamp};
use server_tools::packaging::keys::{KeysOrder, publish_keys, sign};
use server_tools::packaging::{self, Order, Published, inspect::inspect};
use server_tools::{licence, passphrase};

/// Packs and signs updates and licences for plants.
#[derive(Parser)]
#[command(name = "publish", disable_version_flag = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    package: PackageArguments,
}

#[derive(Args)]
struct PackageArguments {
    /// The package's version, such as 1.2.0; alone: print the version of publish itself
    #[arg(long, short = 'V', value_name = "VERSION", num_args = 0..=1)]
    version: Option<Option<String>>,
    /// Files and folders that are new or changed, named from the base folder
    #[arg(long, value_name = "PATH", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Paths that the new version no longer has
    #[arg(long, value_name = "PATH", num_args = 1..)]
    remove: Vec<String>,
    /// Changes to the database: 0012_add_alarms.sql, .sqlite.sql, .down.sql
    #[arg(long, value_name = "FILE", num_args = 1..)]
    migrations: Vec<PathBuf>,
    /// What the operator reads before approving
    #[arg(long, value_name = "TEXT", conflicts_with = "notes_file")]
    notes: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "F")]
    notes_file: Option<PathBuf>,
    /// Key that signs packages (update_private.pem); where more than one signature is required, several
    #[arg(long, value_name = "PEM", num_args = 1..)]
    key: Vec<PathBuf>,
    /// Opens protected keys: first line of this file
    #[arg(long, value_name = "F")]
    passphrase_file: Option<PathBuf>,
    /// Folder that --files are named from
    #[arg(long, value_name = "DIR", default_value = ".")]
    base: PathBuf,
    /// Folder to write update_v<VERSION>.zip into
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Version directories or complete packages that it may be put on
    #[arg(long, value_name = "DIR|ZIP", num_args = 1..)]
    onto: Vec<PathBuf>,
    /// A whole version: nothing is taken from what runs
    #[arg(long)]
    complete: bool,
    /// Only for plants that run this version or a later one
    #[arg(long, value_name = "V")]
    min_version: Option<String>,
    /// linux-x86_64, windows-x86_64 or any; without it Windows for *.exe, this platform for other programs, and any if there is none among the files
    #[arg(long, value_name = "P")]
    platform: Option<String>,
    /// When it was made, in RFC 3339 form; without it the time of the newest input
    #[arg(long, value_name = "TIME")]
    created: Option<String>,
    /// Last day on which plants take it, such as 2026-12-31
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Show what a package holds and who has signed it
    Inspect {
        /// The package
        #[arg(value_name = "ZIP")]
        package: PathBuf,
        /// Keys of which one has to have signed it (update_public.pem)
        #[arg(long, value_name = "PEM", num_args = 1..)]
        public_key: Vec<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Pack a change of the keys that sign packages
    Keys {
        /// One more than that of the keys which plants trust now; the first change is 2
        #[arg(long, value_name = "N")]
        keys_version: u64,
        /// Keys that count from then on, all of them (update_public.pem)
        #[arg(long, value_name = "PEM", num_args = 1.., required = true)]
        trust: Vec<PathBuf>,
        /// How many of them have to sign a package; without it as many as before
        #[arg(long, value_name = "N")]
        required: Option<usize>,
        /// Let plants take versions from this one on again, though a higher one has run
        #[arg(long, value_name = "V")]
        floor: Option<String>,
        /// What the operator reads before approving
        #[arg(long, value_name = "TEXT", default_value = "")]
        notes: String,
        /// Private keys that sign it: enough of those trusted now, and enough of the new ones
        #[arg(long, value_name = "PEM", num_args = 1.., required = true)]
        key: Vec<PathBuf>,
        /// Opens protected keys: first line of this file
        #[arg(long, value_name = "F")]
        passphrase_file: Option<PathBuf>,
        /// Folder to write update_v0.0.0-keys.<N>.zip into
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// When it was made, in RFC 3339 form; without it the time of the newest key
        #[arg(long, value_name = "TIME")]
        created: Option<String>,
        /// Last day on which plants take it, such as 2026-12-31
        #[arg(long, value_name = "DATE")]
        expires: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a signature to a package that somebody else has signed
    Sign {
        /// The package
        #[arg(value_name = "ZIP")]
        package: PathBuf,
        /// Key to sign with
        #[arg(long, value_name = "PEM")]
        key: PathBuf,
        /// Opens a protected key: first line of this file
        #[arg(long, value_name = "F")]
        passphrase_file: Option<PathBuf>,
    },
    /// Write a signed licence
    License {
        /// Whom it is for
        #[arg(long, value_name = "ID")]
        client_id: String,
        /// First day, such as 2026-01-01
        #[arg(long, value_name = "DATE")]
        from: String,
        /// Last day
        #[arg(long, value_name = "DATE")]
        to: String,
        /// Only for the machine with this id
        #[arg(long, value_name = "M")]
        machine_id: Option<String>,
        /// Key that signs licences (license_private.pem)
        #[arg(long, value_name = "PEM")]
        key: PathBuf,
        /// Where to write it
        #[arg(long, value_name = "FILE", default_value = "license.dat")]
        out: PathBuf,
        /// Opens a protected key: first line of this file
        #[arg(long, value_name = "F")]
        passphrase_file: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    protocol::exit::end_at_closed_pipes();
    protocol::exit::end("publish", run(Arguments::parse()))
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        None => package(arguments.package),
        Some(Verb::Inspect { package, public_key, json }) => inspect(&package, &public_key, json),
        Some(Verb::Keys {
            keys_version,
            trust,
            required,
            floor,
            notes,
            key,
            passphrase_file,
            out,
            created,
            expires,
            json,
        }) => {
            let (created, expires) = (parse_created(created)?, parse_expires(expires)?);
            let order = KeysOrder { keys_version, trust, required, floor, notes, out, created, expires };
            show(&publish_keys(&order, &signers(&key, passphrase_file.as_deref())?, json)?, json);
            Ok(())
        }
        Some(Verb::Sign { package, key, passphrase_file }) => {
            let mut signer = signers(&[key], passphrase_file.as_deref())?;
            let count = sign(&package, &signer.swap_remove(0))?;
            println!("{}: {count} signatures", package.display());
            Ok(())
        }
        Some(Verb::License { client_id, from, to, machine_id, key, out, passphrase_file }) => {
            let valid_from = licence::date(&from, false).map_err(Failure::usage)?;
            let valid_to = licence::date(&to, true).map_err(Failure::usage)?;
            let signer = signer(&key, passphrase_file.as_deref())?;
            licence::check_key(&key, &signer)?;
            licence::write(&License { client_id, valid_from, valid_to, machine_id }, &signer, &out)?;
            println!("{}: valid from {valid_from} to {valid_to}", out.display());
            Ok(())
        }
    }
}

fn package(arguments: PackageArguments) -> Result<(), Failure> {
    let version = match arguments.version {
        Some(Some(version)) => version,
        Some(None) if arguments.files.is_empty() && arguments.migrations.is_empty() => {
            println!("publish {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        _ => return Err(Failure::usage("name the package's version with --version 1.2.0; --help shows the rest")),
    };
    if arguments.key.is_empty() {
        return Err(Failure::usage("give the key that signs packages with --key update_private.pem"));
    }
    let notes = match (arguments.notes, arguments.notes_file) {
        (Some(notes), _) => notes,
        (None, Some(file)) => {
            std::fs::read_to_string(&file).map_err(|error| durable::name_error("read", &file, error))?
        }
        (None, None) => String::new(),
    };
    let order = Order {
        version,
        files: arguments.files,
        base: arguments.base,
        remove: arguments.remove,
        migrations: arguments.migrations,
        notes,
        out: arguments.out,
        onto: arguments.onto,
        complete: arguments.complete,
        min_version: arguments.min_version,
        platform: arguments.platform,
        created: parse_created(arguments.created)?,
        expires: parse_expires(arguments.expires)?,
    };
    let signers = signers(&arguments.key, arguments.passphrase_file.as_deref())?;
    show(&packaging::publish(&order, &signers, arguments.json)?, arguments.json);
    Ok(())
}

fn parse_created(text: Option<String>) -> Result<Option<Timestamp>, Failure> {
    let parse =
        |text: String| Timestamp::parse(&text).map_err(|error| Failure::usage(format!("--created {text}: {error}")));
    text.map(parse).transpose()
}

fn parse_expires(text: Option<String>) -> Result<Option<Timestamp>, Failure> {
    let parse = |text: String| match licence::date(&text, true).map_err(Failure::usage)? {
        past if past <= Timestamp::now() => Err(Failure::usage(format!("--expires {text}: that day is over"))),
        expires => Ok(expires),
    };
    text.map(parse).transpose()
}

/// Keys that sign packages.
fn signers(keys: &[PathBuf], passphrase_file: Option<&Path>) -> Result<Vec<PrivateKey>, Failure> {
    let read = |key: &PathBuf| {
        let signer = signer(key, passphrase_file)?;
        packaging::check_key(key, &signer)?;
        Ok(signer)
    };
    keys.iter().map(read).collect()
}

fn signer(key: &Path, passphrase_file: Option<&Path>) -> Result<PrivateKey, Failure> {
    Ok(PrivateKey::read(key, passphrase::read(passphrase_file)?.as_deref())?)
}

fn show(Published { path, packed, warnings }: &Published, as_json: bool) {
    if as_json {
        let shown = serde_json::json!({
            "path": path, "version": packed.manifest.version, "manifest_sha256": packed.manifest_sha256,
            "bytes": packed.bytes, "files": packed.manifest.files.len(), "warnings": warnings,
        });
        println!("{shown}");
        return;
    }
    for warning in warnings {
        eprintln!("publish: warning: {warning}");
    }
    let (files, migrations) = (packed.manifest.files.len(), packed.manifest.migrations.len());
    println!(
        "{}: version {}, {files} files, {migrations} migrations, {} bytes",
        path.display(),
        packed.manifest.version,
        packed.bytes
    );
    println!("manifest {}", packed.manifest_sha256);
}
