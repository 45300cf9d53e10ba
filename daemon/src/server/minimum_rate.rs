use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A stream whose other end has to take what is sent at no less than [`BYTES_PER_SECOND`], judged whenever it has kept us
/// waiting for [`WAIT`] in all. While there is nothing to send, no time passes here.
pub struct MinimumRate<S> {
    stream: S,
    /// Since the last judgement: time spent waiting, and bytes that went through.
    waited: Duration,
    bytes: u64,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

const WAIT: Duration = Duration::from_secs(20);
const BYTES_PER_SECOND: u64 = 1024;

/// A stream that can end without waiting for what was written to be taken.
pub trait Reset {
    /// From here on dropping it throws away what the other side has not taken yet.
    fn reset(&self);
}

impl Reset for TcpStream {
    fn reset(&self) {
        // Otherwise the kernel keeps megabytes for somebody who does not read.
        let _ = self.set_zero_linger();
    }
}

impl<S: Reset> MinimumRate<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, waited: Duration::ZERO, bytes: 0, waiting: None }
    }

    fn wrote(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        self.bytes += bytes as u64;
        if self.bytes >= BYTES_PER_SECOND * WAIT.as_secs() {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let left = WAIT.saturating_sub(self.waited);
        let (_, end) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        ready!(end.as_mut().poll(context));
        self.stream.reset();
        let what = format!("the other side took {} bytes in {} s and is cut off", self.bytes, WAIT.as_secs());
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, what))
    }
}

impl<S: AsyncRead + Reset + Unpin> AsyncRead for MinimumRate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Reset + Unpin> AsyncWrite for MinimumRate<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(outcome) => {
                self.wrote(*outcome.as_ref().unwrap_or(&0));
                Poll::Ready(outcome)
            }
            Poll::Pending => self.wait(context).map(Err),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    impl Reset for DuplexStream {
        fn reset(&self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_of_one_byte_a_second_is_cut_off_and_a_slow_honest_one_is_not() {
        for (every, at_once, cut_off) in [(1, 1, true), (10, 16_000, false)] {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            let mut ours = MinimumRate::new(ours);
            let reader = tokio::spawn(async move {
                let mut bytes = vec![0; at_once];
                while theirs.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                    if bytes.len() < 4096 {
                        tokio::time::sleep(Duration::from_secs(every)).await;
                    } else {
                        // As fast as 1.6 kB a second, in bursts.
                        tokio::time::sleep(Duration::from_millis(2500)).await;
                    }
                }
            });
            let outcome = ours.write_all(&vec![7; 200_000]).await;
            assert_eq!(outcome.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut), cut_off);
            drop(ours);
            reader.await.unwrap();
        }
    }
}
