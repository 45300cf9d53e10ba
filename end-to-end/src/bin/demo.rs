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
use end_to_end::programs::{program, run};
use end_to_end::release::Release;
use end_to_end::{exactly_once, programs, wait_for};
use private_postgres::{Options, PrivatePostgres};
use readings::{Place, migrate};
use serde_json::Value;
use updater::database::ActiveDatabase;

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
    /// Deliver a version whose collector crashes, and see the plant go back by itself
    #[arg(long)]
    bad_update: bool,
}

const TAGS: u32 = 50;
const NEW_VERSION: &str = "0.2.0";
const NOTES: &str = "Alarms can be kept beside readings.\nNothing else changes.";

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
    // A minute in earnest; nobody wants to watch that long.
    plant.set("UPDATE_TRIAL_SECONDS", "5");
    plant.start_and_wait();
    let stored = plant.wait_for_readings(u64::from(TAGS) * 3);
    println!("    {stored} readings stored");

    step("pulling twice, as HQ does");
    let port = plant.agent_port();
    let first = headquarters.pull(port);
    plant.wait_for_readings(first["record_count"].as_u64().unwrap_or(0) + u64::from(TAGS) * 2);
    let second = headquarters.pull(port);
    println!("{}", table(&[&first, &second]));

    compare(&headquarters, &plant)?;
    update(arguments, &headquarters, &plant, &folder)?;

    if arguments.once {
        step("stopping");
        plant.stop();
        return Ok(());
    }
    stay(&headquarters, &mut plant)
}

/// What is shown last in words: nothing is missing, nothing doubled.
fn compare(headquarters: &Headquarters, plant: &Plant) -> Result<(), String> {
    step("comparing HQ's archives with what the plant stored");
    let count = exactly_once::check(&headquarters.archives(), &plant.install_root())?;
    println!("    all {count} readings are there, each exactly once");
    Ok(())
}

/// Packs, delivers and approves a new version, and sees what becomes of it.
fn update(arguments: &Arguments, headquarters: &Headquarters, plant: &Plant, folder: &Path) -> Result<(), String> {
    let before = plant.boot_record().current;
    step("packing and signing an update: a new file, and a new table in the database");
    let release = Release::new(NEW_VERSION, &folder.join("hq")).onto(plant).notes(NOTES);
    let release = release
        .file("assets/welcome.txt", "Welcome to the new version.\n")
        .migration("0002_add_alarms.sql", "CREATE TABLE alarms (id integer PRIMARY KEY, text text NOT NULL);\n")
        .migration("0002_add_alarms.down.sql", "DROP TABLE alarms;\n");
    let release = match arguments.bad_update {
        true => release.script("collector", "echo 'this version does not work' >&2; exit 1"),
        false => release,
    };
    let package = release.publish(headquarters);
    println!("{}", run(program("publish").arg("inspect").arg(&package)).good().trim_end());

    step("delivering it in a session; the agent verifies it and lets it wait");
    headquarters.deliver(plant.agent_port(), &package).good();
    let status = plant.update_status(PIN).json();
    println!("    waiting: {} ({})", status["pending_version"], status["state"]);

    if arguments.once {
        step("approving it through the portal's own API, as the operator does with the PIN");
        plant.approve_update();
    } else {
        println!("\nAn update waits. Open {}/update and press Apply. PIN: {PIN}", plant.address("portal"));
    }
    let line = follow_attempt(plant)?;
    match (arguments.bad_update, line["status"].as_str()) {
        (false, Some("ok")) => {
            println!("    {} runs and is confirmed", plant.boot_record().current);
            step("pulling again, and looking at what the database says it is");
            println!("{}", table(&[&headquarters.pull(plant.agent_port())]));
            println!("    migrations: {}", migrations(plant)?.join(", "));
        }
        (true, Some("failed")) => {
            println!("    it failed ({}), and the plant went back by itself", line["error"]);
            let now = plant.boot_record().current;
            if now != before {
                return Err(format!("{now} runs instead of {before}"));
            }
            println!("    {now} runs as before");
            headquarters.pull(plant.agent_port());
        }
        _ => return Err(format!("the update ended otherwise than expected: {line}\n{}", plant.logs())),
    }
    compare(headquarters, plant)
}

fn migrations(plant: &Plant) -> Result<Vec<String>, String> {
    let root = plant.install_root();
    let database = ActiveDatabase::of(&root).map_err(|error| error.to_string())?;
    let applied = match readings::place(&database.url, root.path()).map_err(|error| error.to_string())? {
        Place::Sqlite(path) => migrate::applied_sqlite(&path),
        Place::Postgres => migrate::applied_postgres(&database.url),
    };
    Ok(applied.map_err(|error| error.to_string())?.into_keys().collect())
}

/// Shows the steps as they come, until the attempt is over and everything runs.
fn follow_attempt(plant: &Plant) -> Result<Value, String> {
    let mut shown = 0;
    while !INTERRUPTED.load(Ordering::SeqCst) {
        let steps = updater::progress::read(&plant.install_root());
        for step in steps.iter().skip(shown) {
            println!("    {:>3} %  {}: {}", step.pct, step.step, step.msg);
        }
        shown = steps.len();
        if steps.last().is_some_and(|step| matches!(step.step.as_str(), "done" | "failed")) {
            return Ok(plant.wait_for_attempt(1, Duration::from_secs(60)));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("interrupted".to_owned())
}

fn stay(headquarters: &Headquarters, plant: &mut Plant) -> Result<(), String> {
    let portal = plant.address("portal");
    let pull = pull_command(headquarters, plant.agent_port());
    println!("\nThe plant runs. Portal: {portal}   PIN: {PIN}\nPull again: {pull}\nCtrl-C ends it all.");
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
