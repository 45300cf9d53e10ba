//! The life of a supervised process: what collector, agent, portal and supervisor have in common.
//!
//! A daemon is given an install root. It reads its configuration, logs to standard error, says on standard output (if it
//! is supervised) where it listens and when it is ready, answers `/healthz`, `/readyz` and `/metrics` on loopback, and
//! stops within bounds when asked to: by signal, or by its standard input closing because its supervisor is gone.

mod ask;
mod control;
mod health;
mod listen;
mod logging;
mod metrics;
pub mod server;

use std::sync::LazyLock;

use protocol::Failure;

pub use ask::{ask, ask_for_stream};
pub use control::{Control, PHASE, SUPERVISED};
pub use health::{Health, Readiness};
pub use listen::{LAST_PORT, bind};
pub use logging::start_logging;
pub use metrics::Metrics;

/// The version of the directory that this executable lies in; a build that was never installed tells what it was
/// compiled as.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let file = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("version.txt")));
        let installed = file.and_then(|file| std::fs::read_to_string(file).ok());
        installed.map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), |text| text.trim().to_owned())
    });
    &VERSION
}

/// The runtime of a daemon: as many threads as the machine has cores, but no more than four.
///
/// # Errors
/// If the operating system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(4))
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("could not start threads: {error}")))
}
