//! `collector`: is given an install root, reads the devices in `config/sources.toml`, and stores every reading exactly
//! once. A reading that it has taken survives its own death, the database's and a power cut.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use config::InstallRoot;
use protocol::Failure;

/// Reads devices and stores their readings.
#[derive(Parser)]
#[command(name = "collector", version = daemon::version())]
struct Arguments {
    /// Install root
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    /// Print one gather of every tag as a table and end; nothing is stored
    #[arg(long)]
    once: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Bring history in: JSON Lines as exported, plain or gzip, or CSV with a header
    Import {
        /// Read one after the other; a file that was imported before is not imported again
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// No progress bar
        #[arg(long)]
        quiet: bool,
    },
}

fn main() -> ExitCode {
    protocol::exit::end_at_closed_pipes();
    let arguments = Arguments::parse();
    protocol::exit::end("collector", run(arguments))
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let root = arguments.root.ok_or_else(|| Failure::usage("name the install root with --root DIR"))?;
    let root = InstallRoot::new(&root);
    match arguments.verb {
        Some(_) if arguments.once => Err(Failure::usage("--once does not go with import")),
        Some(Verb::Import { files, quiet }) => collector::import(&root, &files, quiet),
        None if arguments.once => daemon::runtime()?.block_on(collector::gather_once(&root)),
        None => daemon::runtime()?.block_on(collector::run(&root)),
    }
}
