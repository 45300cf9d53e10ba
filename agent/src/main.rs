//! `agent`: is given an install root and is the only door to the outside. It answers whoever proves to hold an HQ key,
//! and can read readings and take in packages; it can change no program file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use config::InstallRoot;

/// Answers HQ: sessions, exports, updates, status.
#[derive(Parser)]
#[command(name = "agent", version = daemon::version())]
struct Arguments {
    /// Install root
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = InstallRoot::new(&arguments.root);
    protocol::exit::end("agent", daemon::runtime().and_then(|runtime| runtime.block_on(agent::run(&root))))
}
