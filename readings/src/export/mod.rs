//! Rows to complete gzip members, several times faster than formatting and then compressing: the compressor knows how
//! the lines are made.
//!
//! A [`Packer`] holds the lines of one member ([`format`]), and at once what of them repeats earlier ones ([`shape`]) as
//! DEFLATE blocks ([`block`], [`huffman`], [`bits`]). Lines that repeat too little are left to a general compressor.

mod bits;
mod block;
mod format;
mod huffman;
mod packer;
mod shape;
mod tags;

pub use format::Formatter;
pub use packer::Packer;
