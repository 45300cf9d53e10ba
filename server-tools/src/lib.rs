//! The programs of headquarters. Each file in `src/bin` is a command line; what it does stands here.

pub mod keygen;
pub mod licence;
pub mod passphrase;
pub mod sync;

use std::process::ExitCode;

use protocol::{Exit, Failure};

/// Ends a program: an error is one line on standard error, and the exit code of its kind.
pub fn exit(program: &str, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(failure.exit.code())
        }
    }
}
