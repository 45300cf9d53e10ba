//! The applying process hangs on a pipe from its supervisor: when that is gone, it gives up by itself instead of going
//! on beside the next one.

use std::io::{self, BufRead as _};

use protocol::Failure;

/// What the supervisor writes when the collector has confirmed that it stores nothing any more.
pub const SPOOLING: &str = "spooling";

/// Whether the supervisor is still there. Cheap; asked between pieces of long work.
///
/// # Errors
/// If it is gone.
#[cfg(unix)]
pub fn check() -> Result<(), Failure> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let input = io::stdin();
    let mut polled = [PollFd::new(&input, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let hung_up = poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP);
    if hung_up && !polled[0].revents().contains(PollFlags::IN) { Err(gone()) } else { Ok(()) }
}

/// On Windows the job object takes the process with its supervisor.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn check() -> Result<(), Failure> {
    Ok(())
}

/// Blocks until the supervisor says that nothing enters the database any more.
///
/// # Errors
/// If it is gone, or cannot say so.
pub fn wait_for_spooling() -> Result<(), Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if line.trim_end() == SPOOLING { Ok(()) } else { Err(gone()) }
}

fn gone() -> Failure {
    Failure::failed("the watchdog has ended the attempt, or is gone")
}
