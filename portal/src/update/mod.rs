//! The operator's part of updates, for programs: what waits, yes or later to it, and how far it is.
//!
//! Nothing is decided here. The supervisor holds the PIN and records approvals; a PIN goes through to it, and is
//! neither kept nor logged.

pub mod approval;
pub mod arrivals;
pub mod progress;
pub mod standing;
pub mod status;
