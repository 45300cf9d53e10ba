//! Exit codes that scripts depend on, and the one-line error that goes with them.

use std::fmt;
use std::process::ExitCode;

/// How a program ends. The numbers follow `sysexits.h` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    /// The other side could not be reached.
    Unreachable = 69,
    /// Disk full or unreadable.
    Disk = 74,
    TryLater = 75,
    /// Bad gzip, wrong count, wrong hash.
    Integrity = 76,
    /// Authentication refused, or the other side is not who it was.
    Refused = 77,
    Configuration = 78,
}

impl Exit {
    /// The process's exit status.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// An error for a person: one line that names what and where and says what to do, with the exit code of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub fn configuration(message: impl fmt::Display) -> Self {
        Self::new(Exit::Configuration, message)
    }

    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    pub fn integrity(message: impl fmt::Display) -> Self {
        Self::new(Exit::Integrity, message)
    }

    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    pub fn try_later(message: impl fmt::Display) -> Self {
        Self::new(Exit::TryLater, message)
    }

    /// An error of the file system: everything that a full or failing disk can bring.
    pub fn disk(message: impl fmt::Display) -> Self {
        Self::new(Exit::Disk, message)
    }
}

/// A reader that goes away, such as `head`, ends a program quietly: `println!` knows no other answer than a panic.
pub fn end_at_closed_pipes() {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        if said.starts_with("failed printing to std") && said.contains("Broken pipe") {
            std::process::exit(i32::from(Exit::Failed.code()));
        }
        otherwise(panic);
    }));
}

/// Ends a program: an error is one line on standard error, and the exit code of its kind.
pub fn end(program: &str, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(failure.exit.code())
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    /// File-system errors arrive here with operation and path already in their message.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::NotFound {
            return Self::failed(error);
        }
        let advice = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => "; free some space and start again",
            std::io::ErrorKind::ReadOnlyFilesystem => "; the disk is read-only, check it",
            _ => "",
        };
        Self::disk(format!("{error}{advice}"))
    }
}
