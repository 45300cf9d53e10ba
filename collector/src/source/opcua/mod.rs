//! OPC UA, by the binary protocol. A server tells what has changed ([`listen`]) or is asked for every value ([`Polled`]).
//!
//! A connection that breaks is not mended: the next one makes its session, its node ids and its subscriptions anew, and
//! between the two lies a reading of bad quality of each tag.

mod connection;
mod guard;
mod identity;
mod listen;
mod poll;
mod value;

pub use listen::listen;
pub use poll::Polled;
