//! `cargo demo`: a plant PC and headquarters on this machine, from keys to archives. It is given nothing and leaves no
//! process behind, however it ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use comfy_table::{Table, presets};
use end_to_end::headquarters::{CLIENT, Headquarters};
use end_to_end::plant::{PIN, Plant};
use end_to_end::{exactly_once, programs, wait_for};
use private_postgres::{Options, PrivatePostgres};
use serde_json::Value;

/// Shows Plantlink at work on this machine.
#[derive(Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
struct Arguments {
    /// End when everything has been shown, instead of leaving the plant running
    #[arg(long)]
    once: bool,
    /// Keep readings in a private PostgreSQL instead of SQLite
    #[arg(long)]
    postgres: bool,
}

const TAGS: u32 = 50;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match end_at_interrupt().and_then(|()| demo(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &Arguments) -> Result<(), String> {
    step("building all programs (the first time takes some minutes)");
    programs::build()?;
    let folder = fresh_folder()?;
    // Held until the end: PostgreSQL goes with it.
    let server = match arguments.postgres {
        true => {
            step("starting a private PostgreSQL");
            Some(PrivatePostgres::start(&Options::default())?)
        }
        false => None,
    };
    let database = server.as_ref().map_or_else(|| "sqlite:data/plant.db".to_owned(), PrivatePostgres::new_database);

    step("making HQ's keys and a licence");
    let headquarters = Headquarters::new(&folder.join("hq/keys"), &folder.join("hq/data_storage"));
    let license = folder.join("hq/license.dat");
    headquarters.license(&license);

    step(&format!("laying out a plant PC with a simulated line of {TAGS} tags, and starting it"));
    let mut plant = Plant::init(&folder.join("plant"), &headquarters, &database, TAGS, Some(&license));
    plant.start_and_wait();
    let stored = plant.wait_for_readings(u64::from(TAGS) * 3);
    println!("    {stored} readings stored");

    step("pulling twice, as HQ does");
    let port = plant.agent_port();
    let first = headquarters.pull(port);
    plant.wait_for_readings(first["record_count"].as_u64().unwrap_or(0) + u64::from(TAGS) * 2);
    let second = headquarters.pull(port);
    println!("{}", table(&[&first, &second]));

    step("comparing HQ's archives with what the plant stored");
    let count = exactly_once::check(&headquarters.archives(), &plant.install_root())?;
    println!("    all {count} readings are there, each exactly once");

    if arguments.once {
        step("stopping");
        plant.stop();
        return Ok(());
    }
    let portal = plant.address("portal");
    println!("\nThe plant runs. Portal: {portal}   PIN: {PIN}\nPull again: {}", pull_command(&headquarters, port));
    println!("Ctrl-C ends it all.");
    STAYS.store(true, Ordering::SeqCst);
    wait_for("Ctrl-C", Duration::from_secs(u64::from(u32::MAX)), || {
        std::thread::sleep(Duration::from_millis(100));
        (INTERRUPTED.load(Ordering::SeqCst) || plant.status().is_none()).then_some(())
    });
    if !INTERRUPTED.load(Ordering::SeqCst) {
        return Err(format!("the plant has ended\n{}", plant.logs()));
    }
    step("stopping");
    plant.stop();
    Ok(())
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static STAYS: AtomicBool = AtomicBool::new(false);

/// Everything that the demo starts hangs on pipes from it and goes with it. While the plant is shown, a Ctrl-C is waited
/// out in order; before that it ends the demo at once.
fn end_at_interrupt() -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(|error| error.to_string())?;
    std::thread::spawn(move || {
        while runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            if !STAYS.load(Ordering::SeqCst) || INTERRUPTED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        }
    });
    Ok(())
}

fn step(text: &str) {
    println!("==> {text}");
}

/// Below the build's own folder, made anew each time.
fn fresh_folder() -> Result<PathBuf, String> {
    let folder = programs::folder().join("demo-plant");
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", folder.display()));
        }
        _ => {}
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn table(pulls: &[&Value]) -> Table {
    let here = std::env::current_dir().unwrap_or_default().display().to_string();
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(["readings", "bytes", "period end", "archive"]);
    for pull in pulls {
        let text = |name: &str| pull[name].as_str().map_or_else(|| pull[name].to_string(), str::to_owned);
        let archive = text("archive");
        let shown = archive.strip_prefix(&here).map_or(archive.as_str(), |rest| rest.trim_start_matches('/'));
        table.add_row([text("record_count"), text("bytes"), text("period_end"), shown.to_owned()]);
    }
    table
}

fn pull_command(headquarters: &Headquarters, port: u16) -> String {
    let shown = |path: &Path| path.display().to_string();
    format!(
        "{} --host 127.0.0.1 --port {port} --client-id {CLIENT} --key {} --data-dir {}",
        shown(&programs::folder().join("sync_client")),
        shown(&headquarters.keys.join("private.pem")),
        shown(&headquarters.data)
    )
}
