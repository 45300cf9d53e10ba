//! `sync_client`: is given a plant PC and an HQ key, and pulls what the plant has gathered since last time into an
//! archive, and may leave an update package there. Killed at any instant it has lost nothing and goes on at the next start.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::{Failure, Timestamp};
use server_tools::sync::{self, AuthForm, Plant, Pull, Show};

/// Pulls readings from a plant PC.
#[derive(Parser)]
#[command(name = "sync_client", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    pull: Option<PullArguments>,
}

#[derive(Subcommand)]
enum Verb {
    /// Check stored archives against their records
    Verify {
        /// Archives, or folders of them
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Print the outcome as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct PullArguments {
    /// The plant PC
    #[arg(long, required_unless_present = "fleet", requires = "client_id")]
    host: Option<String>,
    #[arg(long, default_value_t = protocol::session::DEFAULT_PORT)]
    port: u16,
    /// What the plant is called here; names its folder
    #[arg(long, value_name = "ID", required_unless_present = "fleet")]
    client_id: Option<String>,
    /// All plants of this file, instead of one
    #[arg(long, value_name = "TOML", conflicts_with_all = ["host", "port", "client_id", "fingerprint"])]
    fleet: Option<PathBuf>,
    /// Of the fleet only these
    #[arg(long, value_name = "ID", requires = "fleet", num_args = 1..)]
    only: Vec<String>,
    /// Plants of the fleet at a time
    #[arg(long, value_name = "N", default_value = "16", requires = "fleet")]
    parallel: std::num::NonZeroUsize,
    /// Ask how the plant is, and pull nothing
    #[arg(long, conflicts_with_all = ["update", "since"])]
    status: bool,
    /// Key that opens sessions
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    /// Opens a protected key: first line of this file
    #[arg(long, value_name = "F")]
    passphrase_file: Option<PathBuf>,
    /// Deliver this update package after the pull
    #[arg(long, value_name = "ZIP")]
    update: Option<PathBuf>,
    /// Start at this time instead of where the last pull ended
    #[arg(long, value_name = "RFC3339", value_parser = parse_time)]
    since: Option<Timestamp>,
    #[arg(long, value_name = "DIR", default_value = "data_storage")]
    data_dir: PathBuf,
    /// The agent's key, as `--strict` wants it known beforehand and as a changed key is accepted
    #[arg(long, value_name = "SHA256", value_parser = sync::parse_fingerprint)]
    fingerprint: Option<String>,
    /// Refuse an agent whose key is not known yet
    #[arg(long)]
    strict: bool,
    /// How to prove who we are
    #[arg(long, value_enum, default_value_t = Auth::Challenge)]
    auth: Auth,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
    /// Print errors only
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Auth {
    Challenge,
    Timestamp,
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    protocol::exit::end_at_closed_pipes();
    let arguments = Arguments::parse();
    protocol::exit::end("sync_client", run(arguments))
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(Verb::Verify { paths, json }) = arguments.verb {
        return sync::verify(&paths, json);
    }
    let Some(arguments) = arguments.pull else { return Err(Failure::usage("name a plant with --host, or a --fleet")) };
    let show = match arguments {
        PullArguments { json: true, .. } => Show::Json,
        PullArguments { quiet: true, .. } => Show::Nothing,
        _ => Show::Table,
    };
    let pull = Pull {
        plant: Plant {
            host: arguments.host.unwrap_or_default(),
            port: arguments.port,
            client_id: arguments.client_id.unwrap_or_default(),
            fingerprint: arguments.fingerprint,
        },
        key: arguments.key,
        passphrase_file: arguments.passphrase_file,
        since: arguments.since,
        update: arguments.update,
        status_only: arguments.status,
        data_dir: arguments.data_dir,
        strict: arguments.strict,
        auth: match arguments.auth {
            Auth::Challenge => AuthForm::Challenge,
            Auth::Timestamp => AuthForm::Timestamp,
        },
    };
    match arguments.fleet {
        None => sync::pull(&pull, show),
        Some(file) => sync::pull_fleet(&pull, &file, &arguments.only, arguments.parallel.get(), show),
    }
}
