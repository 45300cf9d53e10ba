//! What Plantlink's programs say to each other and to the world.
//!
//! Nothing here opens a socket or a database: these are the words, the signatures over them and the times in them.

pub mod control;
pub mod exit;
pub mod export;
pub mod license;
pub mod session;
pub mod signing;
pub mod timestamp;
pub mod tls;

pub use exit::{Exit, Failure};
pub use timestamp::Timestamp;
