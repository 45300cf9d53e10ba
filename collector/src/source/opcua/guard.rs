//! What comes from a server, looked at before the library sees it.
//!
//! The library believes whatever a chunk that opens a channel says of its own security, also in the middle of a secured
//! session: one without any, or signed by anybody's certificate, would be taken for the server's. And it would hold a chunk
//! of whatever size is announced. Here a chunk has to be of bearable size, and one that opens a channel has to name the
//! policy that was agreed and the certificate that the engineer has named; the library then checks the signature by it
//! (OPC UA part 6, 6.7.2).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Larger than any chunk that we say we would take.
const LARGEST_CHUNK: usize = 256 << 10;
/// Kind of message, whether it is the last chunk, size of all of it.
const HEADER: usize = 8;
/// Behind that, when a channel is opened: the channel's number, then policy, certificate and thumbprint, each with its length.
const CHANNEL: usize = 4;

/// Who has to open a secured channel.
#[derive(Clone, Debug)]
pub struct Expected {
    pub policy_uri: String,
    /// DER.
    pub certificate: Vec<u8>,
}

pub struct Guarded<R> {
    inner: R,
    /// `None`: nothing is secured, and sizes are all that is looked at.
    expected: Option<Expected>,
    /// Of the chunk that is coming: what has come of its beginning, as far as that is looked at.
    start: Vec<u8>,
    /// Looked at, and not handed on yet.
    looked_at: Vec<u8>,
    /// Of the chunk's rest, which is not looked at.
    unseen: usize,
}

impl<R> Guarded<R> {
    pub fn new(inner: R, expected: Option<Expected>) -> Self {
        Self { inner, expected, start: Vec::new(), looked_at: Vec::new(), unseen: 0 }
    }

    /// Takes a piece of the stream to pieces; what may go on is in `looked_at`.
    fn look_at(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            if self.unseen > 0 {
                let (through, rest) = piece.split_at(self.unseen.min(piece.len()));
                self.looked_at.extend_from_slice(through);
                self.unseen -= through.len();
                piece = rest;
                continue;
            }
            let (byte, rest) = piece.split_at(1);
            self.start.extend_from_slice(byte);
            piece = rest;
            if self.start.len() < HEADER {
                continue;
            }
            let size = u32::from_le_bytes([self.start[4], self.start[5], self.start[6], self.start[7]]) as usize;
            if !(HEADER..=LARGEST_CHUNK).contains(&size) {
                return Err(refused("a message of a size that nobody asked for"));
            }
            // All of one that opens a channel; of any other its header is enough.
            if let Some(expected) = self.expected.as_ref().filter(|_| self.start.starts_with(b"OPN")) {
                if self.start.len() < size {
                    continue;
                }
                if !expected.is_of(&self.start[HEADER..]) {
                    return Err(refused("an answer that is not of the server that was named"));
                }
            }
            self.unseen = size - self.start.len();
            self.looked_at.append(&mut self.start);
        }
        Ok(())
    }
}

impl Expected {
    /// Whether the security header of a channel's opening is of this policy and this certificate.
    fn is_of(&self, behind_header: &[u8]) -> bool {
        let Some(mut rest) = behind_header.get(CHANNEL..) else { return false };
        let (Some(policy), Some(certificate)) = (field(&mut rest), field(&mut rest)) else { return false };
        policy == self.policy_uri.as_bytes() && certificate == self.certificate
    }
}

/// A length and so many bytes; −1 stands for none.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let length = usize::try_from(i32::from_le_bytes(*length)).unwrap_or(0);
    let (field, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(field)
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}

impl<R: AsyncRead + Unpin> AsyncRead for Guarded<R> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.looked_at.is_empty() {
            let mut piece = [0; 8 << 10];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let read = read.filled().to_vec();
            this.look_at(&read)?;
        }
        let taken = this.looked_at.len().min(buffer.remaining());
        buffer.put_slice(&this.looked_at[..taken]);
        this.looked_at.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const POLICY: &str = "http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256";
    const CERTIFICATE: &[u8] = &[0x30, 0x82, 1, 2, 3];

    fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let size = (HEADER + body.len()) as u32;
        [kind.as_slice(), &size.to_le_bytes(), body].concat()
    }

    fn opening(policy: &str, certificate: Option<&[u8]>) -> Vec<u8> {
        let field = |bytes: &[u8]| [(bytes.len() as i32).to_le_bytes().as_slice(), bytes].concat();
        let certificate = certificate.map_or((-1_i32).to_le_bytes().to_vec(), field);
        let body = [vec![7, 0, 0, 0], field(policy.as_bytes()), certificate, vec![0xff; 40]].concat();
        chunk(b"OPNF", &body)
    }

    async fn through(stream: &[u8]) -> io::Result<Vec<u8>> {
        let expected = Expected { policy_uri: POLICY.to_owned(), certificate: CERTIFICATE.to_vec() };
        // In pieces of every size, so that a header is torn anywhere.
        let mut all = None;
        for size in 1..=stream.len().min(40) {
            let (mut writer, reader) = tokio::io::duplex(size);
            let sent = stream.to_vec();
            let sending = tokio::spawn(async move {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut writer, &sent).await;
            });
            let mut read = Vec::new();
            let outcome = Guarded::new(reader, Some(expected.clone())).read_to_end(&mut read).await;
            sending.await.unwrap();
            outcome?;
            assert!(all.replace(read.clone()).is_none_or(|before| before == read));
        }
        Ok(all.unwrap())
    }

    #[tokio::test]
    async fn an_honest_server_is_handed_on_byte_by_byte() {
        let honest = [
            chunk(b"ACKF", &[1; 20]),
            opening(POLICY, Some(CERTIFICATE)),
            chunk(b"MSGF", &[2; 300]),
            chunk(b"MSGC", &[]),
            opening(POLICY, Some(CERTIFICATE)),
            chunk(b"MSGF", b"OPNF and so on"),
        ]
        .concat();
        assert_eq!(through(&honest).await.unwrap(), honest);
    }

    #[tokio::test]
    async fn nothing_is_taken_of_anybody_else() {
        let none = "http://opcfoundation.org/UA/SecurityPolicy#None";
        let mut truncated = opening(POLICY, Some(CERTIFICATE));
        truncated[4..8].copy_from_slice(&20_u32.to_le_bytes());
        for foreign in [
            opening(none, None),
            opening(none, Some(CERTIFICATE)),
            opening(POLICY, None),
            opening(POLICY, Some(&[0x30, 0x82, 1, 2, 4])),
            truncated,
            chunk(b"OPNF", &[]),
            [b"MSGF".as_slice(), &u32::MAX.to_le_bytes()].concat(),
            [b"MSGF".as_slice(), &7_u32.to_le_bytes()].concat(),
        ] {
            // Also in the middle of a session.
            let stream = [opening(POLICY, Some(CERTIFICATE)), chunk(b"MSGF", &[2; 30]), foreign].concat();
            assert_eq!(through(&stream).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
