//! The operator's pages of one plant PC.
//!
//! It is given an install root (`--root`), and in supervised life the plant's state as lines on standard input.
//! It then
//! 1. reads `config/config.txt`; with a `PORTAL_BIND` other than loopback it serves TLS, by the certificate that
//!    `PORTAL_CERT_FILE` names (exit 78 if that is unusable), and sends other machines' plain requests there,
//! 2. listens at `PORTAL_BIND:PORTAL_PORT` (exit 1 with advice if that is taken) and says where,
//! 3. serves the pages: state from the supervisor, live values from the collector's loopback endpoint,
//! 4. stops within eight seconds when asked to, by signal or by its standard input closing.
//!
//! It writes no file and talks to nothing but the browser, the supervisor and the collector.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use config::InstallRoot;

/// The operator's pages of one plant PC
#[derive(Parser)]
#[command(name = "portal", version = daemon::version())]
struct Arguments {
    /// The install root: where config/, data/ and logs/ are
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = InstallRoot::new(&arguments.root);
    let outcome = daemon::runtime().and_then(|runtime| runtime.block_on(portal::run(&root)));
    protocol::exit::end("portal", outcome)
}
