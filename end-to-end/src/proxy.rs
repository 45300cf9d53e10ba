//! A TCP proxy that cuts connections where a story wants it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Lets everything through until it is told otherwise.
pub struct CuttingProxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Bytes towards the client that the next connections let through; 0: all.
    cut_after: AtomicU64,
    /// Bytes towards the clients that are let through before whoever sends the next one is cut; 0: all.
    budget: AtomicU64,
    pause_micros: AtomicU64,
    passed: AtomicU64,
    connections: AtomicU64,
}

impl CuttingProxy {
    /// In front of a port of this machine.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared::default());
        let proxy = Self { port, shared: shared.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (mut up_from, mut up_to) =
                    (client.try_clone().expect("a file descriptor"), server.try_clone().expect("a file descriptor"));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut up_from, &mut up_to);
                    let _ = up_to.shutdown(Shutdown::Write);
                });
                let shared = shared.clone();
                std::thread::spawn(move || down(server, client, &shared));
            }
        });
        proxy
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Each connection from now on is cut behind so many bytes.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Behind so many bytes, of whatever connections, one is cut.
    pub fn cut_one_after(&self, bytes: u64) {
        self.shared.budget.store(bytes, Ordering::SeqCst);
    }

    /// Whether that has happened.
    pub fn has_cut(&self) -> bool {
        self.shared.budget.load(Ordering::SeqCst) == 0
    }

    /// Pauses so long behind each piece.
    pub fn slow_down(&self, pause: Duration) {
        self.shared.pause_micros.store(pause.as_micros() as u64, Ordering::SeqCst);
    }

    /// Towards the client, in all.
    pub fn passed_bytes(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// Made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

fn down(mut server: TcpStream, mut client: TcpStream, shared: &Shared) {
    let limit = match shared.cut_after.load(Ordering::SeqCst) {
        0 => u64::MAX,
        bytes => bytes,
    };
    let (mut passed, mut bytes) = (0, [0; 8192]);
    while let Ok(count @ 1..) = server.read(&mut bytes) {
        let count = (count as u64).min(limit - passed) as usize;
        let spend = |left: u64| (left > 0).then(|| left.saturating_sub(count as u64));
        let left = shared.budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).unwrap_or(u64::MAX);
        let is_cut = left <= count as u64;
        let count = if is_cut { left as usize } else { count };
        if client.write_all(&bytes[..count]).is_err() {
            break;
        }
        passed += count as u64;
        shared.passed.fetch_add(count as u64, Ordering::SeqCst);
        if passed == limit || is_cut {
            break;
        }
        // The proxy's pace, not a wait of the story's.
        std::thread::sleep(Duration::from_micros(shared.pause_micros.load(Ordering::SeqCst)));
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
