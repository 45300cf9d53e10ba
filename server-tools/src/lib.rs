//! The programs of headquarters. Each file in `src/bin` is a command line; what it does stands here.

pub mod keygen;
pub mod licence;
pub mod packaging;
pub mod passphrase;
pub mod sync;
