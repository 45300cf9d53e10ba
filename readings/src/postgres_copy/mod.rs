//! Readings out of PostgreSQL by `COPY … TO STDOUT (FORMAT binary)`, on a connection of its own.
//!
//! The library's client hands every row from thread to thread in a message of its own, which costs as much as the query.
//! Here the server's bytes are read into one large buffer and the rows are parsed where they lie.

mod format;
mod messages;
mod socket;
mod start_up;

use std::io::Read;

use postgres_protocol::message::frontend;

use crate::error::StoreError;
use crate::postgres_url::{self, Target};
pub use format::{Copied, copy_frames};
use messages::Messages;
use socket::Socket;

/// PostgreSQL sends 8 KiB at a time; measured, 8 to 64 KiB cost the same within the noise.
const BUFFER_BYTES: usize = 64 << 10;

/// No transaction holds back vacuum for longer than the timeout, and nothing is ever written here. Readings lie in the
/// order of `seq`, so their index gives them as they come; a server that never analysed the table would sort them.
/// The keepalives end a session whose plant PC has vanished in the middle of a `COPY`.
const SESSION: &str =
    "SET statement_timeout = '5s'; SET default_transaction_read_only = on; SET client_min_messages = warning;
     SET timezone = 'UTC'; SET jit = off; SET enable_sort = off; SET enable_bitmapscan = off;
     SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3";

/// A connection that does nothing but `COPY … TO STDOUT`. After an error it is in an unknown state, and of no more use.
pub struct CopyConnection {
    messages: Messages<Socket>,
}

impl CopyConnection {
    /// # Errors
    /// [`StoreError`], in words that name the server but never the password.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let target = postgres_url::parse(url)?;
        Self::connect(&target).map_err(|error| postgres_url::named(url, error))
    }

    /// Tries the URL's servers in turn, as the library does.
    fn connect(target: &Target) -> Result<Self, StoreError> {
        let mut last = StoreError::Configuration("DATABASE_URL names no server".into());
        for address in socket::addresses(&target.config) {
            let opened = address.and_then(|address| {
                let mut messages = Messages::new(socket::connect(&address, target)?, BUFFER_BYTES);
                start_up::start_up(&mut messages, &target.config)?;
                start_up::check_role(&mut messages, &target.config)?;
                simple_query(&mut messages, SESSION)?;
                messages.stream().started()?;
                Ok(Self { messages })
            });
            match opened {
                Ok(opened) => return Ok(opened),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Gives every row of a `COPY` in binary format.
    ///
    /// # Errors
    /// [`StoreError`]; rows may have been given before it.
    pub fn rows(
        &mut self,
        query: &str,
        each: &mut dyn FnMut(&Copied<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.messages.send(|bytes| frontend::query(query, bytes))?;
        read_answer(&mut self.messages, each)?;
        self.messages.shrink_to(BUFFER_BYTES);
        Ok(())
    }
}

impl Drop for CopyConnection {
    fn drop(&mut self) {
        // Politeness; a connection that is broken has nobody to hear it.
        let _ = self.messages.send(|bytes| {
            frontend::terminate(bytes);
            Ok(())
        });
    }
}

/// What a server says from the query up to being ready for the next.
fn read_answer<S: Read>(
    messages: &mut Messages<S>,
    each: &mut dyn FnMut(&Copied<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut rows = format::Rows::default();
    let mut complete = false;
    loop {
        let message = messages.next()?;
        match message.kind {
            b'd' => rows.read(message.body, each)?,
            b'C' => complete = true,
            b'Z' if complete && rows.ended() => return Ok(()),
            b'Z' => return Err(messages::unexpected("the end of a COPY that is not whole")),
            // What a COPY begins and ends with beside its rows: CopyOutResponse and CopyDone.
            b'H' | b'c' => {}
            _ => message.in_passing()?,
        }
    }
}

/// Statements that return nothing.
fn simple_query(messages: &mut Messages<Socket>, query: &str) -> Result<(), StoreError> {
    messages.send(|bytes| frontend::query(query, bytes))?;
    loop {
        let message = messages.next()?;
        match message.kind {
            b'C' => {}
            b'Z' => return Ok(()),
            _ => message.in_passing()?,
        }
    }
}

/// [`read_answer`] for the fuzzer, which plays a hostile server: what it gave, in words, up to its end or its error.
#[doc(hidden)]
pub fn fuzz_answer(stream: impl Read, buffer_bytes: usize) -> Vec<String> {
    let mut given = Vec::new();
    let outcome = read_answer(&mut Messages::new(stream, buffer_bytes), &mut |row| {
        given.push(format!("{row:?}"));
        Ok(())
    });
    given.push(format!("{outcome:?}"));
    given
}

#[cfg(test)]
mod tests;
