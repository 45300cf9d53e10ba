//! Delivering an update package: streamed from disk, never held in memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::{StatusCode, header};
use protocol::{Exit, Failure};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::connection::{Connection, file_body, json, refused};
use super::report::Progress;

/// A package as its sender has to know it; whether it is any good is for the agent to say.
pub struct Package {
    path: PathBuf,
    bytes: u64,
    version: String,
    signature: Vec<u8>,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Delivered {
    pub version: String,
    /// The agent's stable word; `queued` is the good one.
    pub status: String,
}

const LARGEST_MANIFEST: u64 = 16 << 20;
const LARGEST_SIGNATURE: u64 = 64 << 10;
const PIECE_BYTES: usize = 256 << 10;

#[derive(Deserialize)]
struct Verdict {
    status: String,
    #[serde(default)]
    reason: Option<String>,
}

impl Package {
    /// Looks into a package for what its headers say.
    ///
    /// # Errors
    /// A file that is no package.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let unusable =
            |what: &dyn std::fmt::Display| Failure::usage(format!("{} is no update package: {what}", path.display()));
        let file = File::open(path).map_err(|error| durable::name_error("read", path, error))?;
        let bytes = file.metadata().map_err(|error| durable::name_error("read", path, error))?.len();
        let mut archive = zip::ZipArchive::new(file).map_err(|error| unusable(&error))?;
        let mut read = |name: &str, largest: u64| -> Result<Vec<u8>, Failure> {
            let entry = archive.by_name(name).map_err(|error| unusable(&format!("{name}: {error}")))?;
            let mut content = Vec::new();
            entry.take(largest).read_to_end(&mut content).map_err(|error| unusable(&format!("{name}: {error}")))?;
            Ok(content)
        };
        let manifest = read("manifest.json", LARGEST_MANIFEST)?;
        let signature = read("manifest.sig", LARGEST_SIGNATURE)?;
        let manifest: serde_json::Value =
            serde_json::from_slice(&manifest).map_err(|error| unusable(&format!("manifest.json: {error}")))?;
        let version =
            manifest["version"].as_str().ok_or_else(|| unusable(&"manifest.json names no version"))?.to_owned();
        Ok(Self { path: path.to_owned(), bytes, version, signature })
    }
}

/// Sends a package in an open session.
///
/// # Errors
/// Whatever the agent answers but `queued`, with the exit code of its kind.
pub async fn deliver(
    connection: &mut Connection,
    token: &str,
    package: &Package,
    progress: &Progress,
) -> Result<Delivered, Failure> {
    progress.begin_delivery(package.bytes);
    let (pieces, body) = mpsc::channel(4);
    let path = package.path.clone();
    let sent = progress.clone_bar();
    tokio::task::spawn_blocking(move || {
        let outcome = read_pieces(&path, |piece| {
            sent.inc(piece.len() as u64);
            pieces.blocking_send(Ok(piece)).is_ok()
        });
        if let Err(error) = outcome {
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let version = header::HeaderValue::from_str(&package.version)
        .map_err(|_| Failure::usage(format!("the package's version `{}` is none", package.version)))?;
    let signature = header::HeaderValue::from_str(&STANDARD.encode(&package.signature)).expect("base64 is plain text");
    let headers = [
        (header::CONTENT_TYPE, header::HeaderValue::from_static("application/zip")),
        (header::CONTENT_LENGTH, header::HeaderValue::from(package.bytes)),
        (header::HeaderName::from_static("x-update-version"), version),
        (header::HeaderName::from_static("x-manifest-signature"), signature),
    ];
    let answer = connection.send("POST", "/update", Some(token), &headers, file_body(body)).await?;
    let http = answer.status();
    if http == StatusCode::NOT_FOUND {
        return Err(Failure::failed("this agent takes no updates; the version that runs there is too old for it"));
    }
    if matches!(http, StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE) {
        return Err(refused(answer).await);
    }
    let verdict: Verdict = json(answer).await?;
    match (http, verdict.status.as_str()) {
        (StatusCode::OK, status) => Ok(Delivered { version: package.version.clone(), status: status.to_owned() }),
        (_, status) => {
            let reason = verdict.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            let (exit, advice) = match status {
                "busy" => (Exit::TryLater, "; another update is being applied, try again later"),
                "no_space" => (Exit::TryLater, "; the plant PC's disk is too full"),
                "invalid_sig" | "invalid_package" => (Exit::Integrity, ""),
                "same_version" => (Exit::Failed, "; the plant runs this version already"),
                "older_version" => (Exit::Failed, "; the plant runs or awaits a newer one"),
                _ => (Exit::Failed, ""),
            };
            Err(Failure::new(
                exit,
                format!("the agent refused the update {}: {status}{reason}{advice}", package.version),
            ))
        }
    }
}

fn read_pieces(path: &Path, mut each: impl FnMut(Bytes) -> bool) -> io::Result<()> {
    let mut file = File::open(path)?;
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let count = file.read(&mut piece)?;
        piece.truncate(count);
        if count == 0 || !each(piece.into()) {
            return Ok(());
        }
    }
}
