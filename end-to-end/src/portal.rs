//! The portal as a script uses it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::plant::{PIN, Plant};
use crate::wait_for;

/// Status and body of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// # Panics
    /// If the body is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One request to the portal, on a connection of its own.
///
/// # Errors
/// In words, if nobody answers.
pub fn ask(address: &str, method: &str, path: &str, headers: &str, body: &str) -> Result<Answer, String> {
    let host = address.trim_start_matches("http://");
    let failed = |error: std::io::Error| format!("{method} {address}{path}: {error}");
    let mut stream = TcpStream::connect(host).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(failed)?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    // Some servers leave the connection open, whatever they are asked.
    while !is_whole(&answer) {
        match stream.read(&mut piece).map_err(failed)? {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{method} {path}: half an answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("{method} {path}: {head}"))?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// By the length that its head tells.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}

impl Plant {
    /// Where the plant PC's own browser finds the portal.
    ///
    /// # Panics
    /// If the portal has no address.
    pub fn portal(&self) -> String {
        self.address("portal").replace("https://0.0.0.0", "http://127.0.0.1")
    }

    /// `GET /api/update/status` with this PIN.
    ///
    /// # Panics
    /// If the portal does not answer.
    pub fn update_status(&self, pin: &str) -> Answer {
        let headers = format!("X-Config-Pin: {pin}\r\n");
        ask(&self.portal(), "GET", "/api/update/status", &headers, "").unwrap_or_else(|error| panic!("{error}"))
    }

    /// `POST /api/update/apply`.
    ///
    /// # Panics
    /// If the portal does not answer.
    pub fn apply_update(&self, pin: &str, manifest_sha256: &str) -> Answer {
        let body = json!({ "pin": pin, "manifest_sha256": manifest_sha256 }).to_string();
        let headers = "Content-Type: application/json\r\n";
        ask(&self.portal(), "POST", "/api/update/apply", headers, &body).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Reads of the waiting update, as the operator does, and approves it.
    ///
    /// # Panics
    /// If none waits, or it is not accepted.
    pub fn approve_update(&self) {
        let waiting = wait_for("an update that waits", Duration::from_secs(10), || {
            let status = self.update_status(PIN).json();
            (status["pending_update"] == true).then_some(status)
        });
        let hash = waiting["manifest_sha256"].as_str().expect("what waits has a hash").to_owned();
        let answer = self.apply_update(PIN, &hash);
        assert_eq!(answer.status, 202, "{answer:?}\n{}", self.logs());
    }

    /// Waits until an attempt is over and everything runs; what the log says of it.
    ///
    /// # Panics
    /// If it is not over in time.
    pub fn wait_for_attempt(&self, number: u64, within: Duration) -> Value {
        let log = self.root.join("agent/update_log.jsonl");
        let deadline = std::time::Instant::now() + within;
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let line = lines.rfind(|line| line["attempt"] == number);
            let committed = self.status().is_some_and(|status| status.phase == "committed");
            if let Some(line) = line.filter(|_| committed) {
                self.wait_until_running();
                return line;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "attempt {number} is not over: {:?}\n{}",
                self.status(),
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
