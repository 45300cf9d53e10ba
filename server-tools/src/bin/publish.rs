//! `publish`: is given what belongs into something signed, and the key to sign it with.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use protocol::Failure;
use protocol::license::License;
use protocol::signing::PrivateKey;
use server_tools::{licence, passphrase};

/// Signs what plants receive.
#[derive(Parser)]
#[command(name = "publish", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
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
    protocol::exit::end("publish", run(Arguments::parse()))
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::License { client_id, from, to, machine_id, key, out, passphrase_file } => {
            let valid_from = licence::date(&from, false).map_err(Failure::usage)?;
            let valid_to = licence::date(&to, true).map_err(Failure::usage)?;
            let signer = PrivateKey::read(&key, passphrase::read(passphrase_file.as_deref())?.as_deref())?;
            licence::check_key(&key, &signer)?;
            licence::write(&License { client_id, valid_from, valid_to, machine_id }, &signer, &out)?;
            println!("{}: valid from {valid_from} to {valid_to}", out.display());
            Ok(())
        }
    }
}
