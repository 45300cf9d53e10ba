//! Pulling: from a plant PC into an archive.
//!
//! [`connection`] speaks HTTPS, [`known_agent`] says whether it is the right agent, [`opening`] opens the session,
//! [`transfer`] brings an export over, [`delivery`] takes a package there, [`status`] asks how the plant is, [`fleet`] does it for many, [`archive`] is how it lies on disk, [`report`] is what people and scripts see.

mod archive;
mod connection;
mod delivery;
mod fleet;
mod known_agent;
mod opening;
mod report;
mod status;
mod transfer;
mod verify;

use std::path::PathBuf;

use protocol::signing::PrivateKey;
use protocol::{Failure, Timestamp};

use archive::Folder;
use connection::Connection;
use report::Progress;
use transfer::Broken;

pub use fleet::pull_fleet;
pub use report::Show;
pub use verify::verify;

/// A plant PC as HQ knows it.
#[derive(Clone, Debug)]
pub struct Plant {
    pub host: String,
    pub port: u16,
    pub client_id: String,
    /// The agent's key, if it is known beforehand.
    pub fingerprint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthForm {
    Challenge,
    Timestamp,
}

/// One pull.
#[derive(Clone, Debug)]
pub struct Pull {
    pub plant: Plant,
    pub key: PathBuf,
    pub passphrase_file: Option<PathBuf>,
    pub since: Option<Timestamp>,
    /// A package to deliver after the pull.
    pub update: Option<PathBuf>,
    /// Only ask how the plant is.
    pub status_only: bool,
    pub data_dir: PathBuf,
    pub strict: bool,
    pub auth: AuthForm,
}

/// Pulls, and shows what came of it.
///
/// # Errors
/// Whatever kept the pull from its end; what had come is kept.
pub fn pull(pull: &Pull, show: Show) -> Result<(), Failure> {
    let mut done = Done::default();
    let outcome = Tools::read(pull).and_then(|tools| {
        let progress = Progress::new(show);
        block_on(run(pull, &tools, &progress, &mut done))
    });
    report::show(&pull.plant, &done, outcome.as_ref().err(), show);
    outcome
}

/// SHA-256 in hex, with or without colons.
///
/// # Errors
/// In words, if it is none.
pub fn parse_fingerprint(text: &str) -> Result<String, String> {
    let plain: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    match plain.len() == 64 && plain.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(plain),
        false => Err("64 hexadecimal digits".to_owned()),
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::failed(format!("could not start: {error}")))?.block_on(work)
}

/// How far a run came.
#[derive(Default)]
struct Done {
    pulled: Option<archive::Pulled>,
    delivered: Option<delivery::Delivered>,
    status: Option<status::Status>,
}

/// What is read once, for however many plants.
struct Tools {
    key: PrivateKey,
    package: Option<delivery::Package>,
}

impl Tools {
    fn read(pull: &Pull) -> Result<Self, Failure> {
        let passphrase = crate::passphrase::read(pull.passphrase_file.as_deref())?;
        let key = PrivateKey::read(&pull.key, passphrase.as_deref())?;
        Ok(Self { key, package: pull.update.as_deref().map(delivery::Package::open).transpose()? })
    }
}

/// A stream that breaks is taken up again so often, as long as it brings something each time.
const ATTEMPTS_WITHOUT_PROGRESS: u32 = 3;
/// Bytes; less is what a plant could dole out for ever.
const LEAST_PROGRESS: u64 = 4 << 10;

async fn run(pull: &Pull, tools: &Tools, progress: &Progress, done: &mut Done) -> Result<(), Failure> {
    let open = if pull.status_only { Folder::look_into } else { Folder::open };
    let folder = open(&pull.data_dir, &pull.plant.client_id)?;
    let (mut tries, mut received) = (0, folder.received());
    loop {
        let broken = match attempt(pull, tools, &folder, progress, done).await {
            Ok(()) => return Ok(()),
            Err(Broken::Final(failure)) => return Err(failure),
            // Whoever cannot be reached at all is not there; within a pull, a line may come back.
            Err(Broken::Unreached(failure)) if tries == 0 => return Err(failure),
            Err(Broken::Unreached(failure) | Broken::Off(failure)) => failure,
        };
        let brought = folder.received().saturating_sub(received);
        tries = if brought >= LEAST_PROGRESS { 1 } else { tries + 1 };
        received = folder.received();
        if tries >= ATTEMPTS_WITHOUT_PROGRESS {
            let kept = match received {
                0 => String::new(),
                bytes => format!("; {bytes} bytes that came are kept, the next pull goes on behind them"),
            };
            return Err(Failure { message: format!("{}{kept}", broken.message), ..broken });
        }
        progress.note(&format!("{}; trying again", broken.message));
        tokio::time::sleep(std::time::Duration::from_secs(u64::from(tries))).await;
    }
}

const SESSION_IS_FRESH: std::time::Duration = std::time::Duration::from_secs(120);

/// One connection's worth.
async fn attempt(
    pull: &Pull,
    tools: &Tools,
    folder: &Folder,
    progress: &Progress,
    done: &mut Done,
) -> Result<(), Broken> {
    let Tools { key, package } = tools;
    let opened = Connection::open(&pull.plant.host, pull.plant.port).await;
    let mut connection = opened.map_err(Broken::Unreached)?;
    known_agent::check(pull, connection.fingerprint(), folder, progress)?;
    let opened_at = std::time::Instant::now();
    let token = opening::open(&mut connection, key, pull.auth).await?;
    if pull.status_only {
        done.status = Some(status::ask(&mut connection, &token).await?);
        return Ok(());
    }
    if done.pulled.is_none() {
        done.pulled = Some(transfer::pull(&mut connection, &token, pull, folder, progress).await?);
    }
    // Readings first: whatever becomes of the update, they are at home.
    if let Some(package) = package {
        // A session lives for five minutes, and a pull over a poor line takes longer.
        let is_fresh = opened_at.elapsed() < SESSION_IS_FRESH;
        let token = if is_fresh { token } else { opening::open(&mut connection, key, pull.auth).await? };
        done.delivered = Some(delivery::deliver(&mut connection, &token, package, progress).await?);
    }
    Ok(())
}
