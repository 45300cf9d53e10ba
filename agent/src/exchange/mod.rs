//! What a session is used for, one module each. None of them knows how the session came about.

pub mod cuts;
pub mod export;
mod packing;
mod place;
pub mod status;
mod stream;
pub mod update;
