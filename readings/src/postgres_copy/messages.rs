//! PostgreSQL's messages, parsed where they were read: a kind, a length, a body.

use std::io::{self, ErrorKind, Read, Write};

use bytes::BytesMut;

use crate::error::StoreError;

const HEADER_BYTES: usize = 5;
/// A longer message is refused. A row of readings is some sixty bytes and its text; PostgreSQL itself ends at 1 GB.
const LARGEST_MESSAGE: usize = 64 << 20;

/// A stream, and what of it has been read but not yet taken: `buffer[start..end]`.
pub struct Messages<S> {
    stream: S,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// What a server says.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u8,
    pub body: &'a [u8],
}

impl<S: Read> Messages<S> {
    pub fn new(stream: S, buffer_bytes: usize) -> Self {
        Self { stream, buffer: vec![0; buffer_bytes.max(HEADER_BYTES)], start: 0, end: 0 }
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// # Errors
    /// [`StoreError::Unreachable`] if the stream ends or fails before a message is whole, or carries none.
    #[inline]
    pub fn next(&mut self) -> Result<Message<'_>, StoreError> {
        let whole = loop {
            let there = &self.buffer[self.start..self.end];
            match there.first_chunk() {
                None => self.fill(HEADER_BYTES)?,
                Some(&header) => match whole_length(header)? {
                    whole if whole <= there.len() => break whole,
                    more => self.fill(more)?,
                },
            }
        };
        let message = &self.buffer[self.start..self.start + whole];
        self.start += whole;
        Ok(Message { kind: message[0], body: &message[HEADER_BYTES..] })
    }

    /// Reads once. A message larger than the buffer makes it grow, but never beyond twice of what has really arrived.
    #[cold]
    fn fill(&mut self, wanted: usize) -> Result<(), StoreError> {
        // The beginning of a message moves to the front, so that every read has almost the whole buffer to itself.
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize(wanted.min(self.buffer.len() * 2), 0);
        }
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(StoreError::Unreachable("the server closed the connection".into())),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    /// Gives back the memory that one long text took.
    pub fn shrink_to(&mut self, buffer_bytes: usize) {
        if self.buffer.len() > buffer_bytes && self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.buffer.truncate(buffer_bytes);
            self.buffer.shrink_to_fit();
        }
    }
}

impl<S: Write> Messages<S> {
    pub fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), StoreError> {
        let mut bytes = BytesMut::new();
        // It fails for a text with U+0000 in it.
        write(&mut bytes).map_err(|error| StoreError::Configuration(error.to_string()))?;
        self.stream.write_all(&bytes).and_then(|()| self.stream.flush()).map_err(|error| broken(&error))
    }
}

impl Message<'_> {
    /// A message that may come at any time: a refusal is an error, news of the session is nothing.
    pub fn in_passing(&self) -> Result<(), StoreError> {
        match self.kind {
            b'E' => Err(self.refusal()),
            b'N' | b'S' | b'A' => Ok(()),
            kind => Err(unexpected(&format!("a message `{}`", kind.escape_ascii()))),
        }
    }

    /// The reason in an `ErrorResponse`.
    fn refusal(&self) -> StoreError {
        let (mut code, mut message, mut detail) = (String::new(), String::new(), None);
        for field in self.body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { break };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'C' => code = text,
                b'M' => message = text,
                b'D' => detail = Some(text),
                _ => {}
            }
        }
        StoreError::refused(&code, &message, detail.as_deref())
    }
}

/// From a header to the length of the whole message.
#[inline]
fn whole_length(header: [u8; HEADER_BYTES]) -> Result<usize, StoreError> {
    let [_, length @ ..] = header;
    // The length counts itself, but not the kind.
    match usize::try_from(i32::from_be_bytes(length)) {
        Ok(length @ 4..LARGEST_MESSAGE) => Ok(length + 1),
        _ => Err(unexpected(&format!("a message of {} bytes", i32::from_be_bytes(length)))),
    }
}

pub fn broken(error: &io::Error) -> StoreError {
    StoreError::Unreachable(match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "the server does not answer".to_owned(),
        _ => format!("the connection broke: {error}"),
    })
}

#[cold]
pub fn unexpected(what: &str) -> StoreError {
    StoreError::Unreachable(format!("the server sent {what}, which is not PostgreSQL's protocol"))
}
