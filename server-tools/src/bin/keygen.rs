//! `keygen`: is given a folder and writes three pairs of keys into it; never overwrites one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use protocol::Failure;

/// Makes the keys that open sessions, sign packages and sign licences.
#[derive(Parser)]
#[command(name = "keygen", version)]
struct Arguments {
    /// Folder to write into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Size of the keys
    #[arg(long, default_value_t = 3072, value_parser = parse_bits)]
    bits: usize,
    /// Protect the private keys by the first line of this file
    #[arg(long, value_name = "F")]
    passphrase_file: Option<PathBuf>,
}

fn parse_bits(text: &str) -> Result<usize, String> {
    match text {
        "3072" => Ok(3072),
        "4096" => Ok(4096),
        _ => Err("3072 or 4096".to_owned()),
    }
}

fn main() -> ExitCode {
    protocol::exit::end_at_closed_pipes();
    protocol::exit::end("keygen", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let passphrase = server_tools::passphrase::read(arguments.passphrase_file.as_deref())?;
    server_tools::keygen::keygen(&arguments.out, arguments.bits, passphrase.as_deref())
}
