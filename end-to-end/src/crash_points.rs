//! An update killed at every system call that changes something: an install root of tiny programs, and `watchdog apply`
//! and `watchdog settle` run on it under strace.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use config::{Credentials, InstallRoot};
use protocol::Timestamp;
use readings::{Batch, Quality, Reading, Span};
use rustix::process::{Pid, Signal, kill_process};
use semver::Version;
use updater::boot_record::{BootRecord, Phase};
use updater::database::ActiveDatabase;
use updater::patch::PROGRAMS;
use updater::version_directory::{read_tree, tree_hash};
use updater::{approval, pending};

use crate::headquarters::Headquarters;
use crate::plant::PIN;
use crate::programs::{Ended, Platform, program, run};
use crate::wait_for;

/// System calls that change what a disk holds.
const CHANGING: &str = "openat,write,pwrite64,writev,pwritev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,\
     link,linkat,mkdir,mkdirat,rmdir,ftruncate,fchmod,fchmodat,chmod,copy_file_range,sendfile,fallocate,sendto";
const READINGS: u64 = 50;

/// A root in which a package is approved and nothing of it is done.
pub struct Bench {
    folder: PathBuf,
    pub root: InstallRoot,
    old_tree: String,
    platform: Platform,
}

/// What is run on a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    Apply,
    Start,
    Passed,
    Failed,
    /// `watchdog restore` of the newest backup.
    Restore,
}

/// What happens to it at one of its system calls.
#[derive(Clone, Debug)]
pub struct Injection {
    pub call: String,
    pub occurrence: u32,
    /// As strace has it: `signal=KILL`, `error=EIO`.
    pub what: &'static str,
}

/// Which version a root is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Old,
    New,
}

impl Bench {
    /// Lays the root in `folder`, with its readings in `database`.
    ///
    /// # Panics
    /// If that does not succeed.
    pub fn lay(folder: &Path, headquarters: &Headquarters, database: &str) -> Self {
        Self::lay_on(Platform::Native, folder, headquarters, database)
    }

    /// The same on a plant PC of this kind.
    ///
    /// # Panics
    /// If that does not succeed.
    pub fn lay_on(platform: Platform, folder: &Path, headquarters: &Headquarters, database: &str) -> Self {
        let programs = folder.join("programs");
        fs::create_dir_all(&programs).expect("a writable folder");
        for name in PROGRAMS {
            script(&programs.join(platform.executable(name)), "old");
        }
        let mut bench = Self::with_programs(folder, headquarters, database, &programs);
        bench.platform = platform;
        bench.fill();
        bench.take_in(&bench.publish(headquarters));
        bench.approve();
        bench
    }

    /// Lays a root in `folder` whose version 1.0.0 is what lies in `programs`; nothing waits there.
    ///
    /// # Panics
    /// If that does not succeed.
    pub fn with_programs(folder: &Path, headquarters: &Headquarters, database: &str, programs: &Path) -> Self {
        let root = InstallRoot::new(&folder.join("root"));
        for made in ["config", "agent", "state/agent", "state/update", "data", "backups", "pending_update/incoming"] {
            fs::create_dir_all(root.resolve(made)).expect("a writable folder");
        }
        fs::write(root.config_file(), "LOW_DISK_RESERVE_BYTES = 1\n").expect("a writable folder");
        fs::write(root.credentials_file(), format!("DATABASE_URL={database}\n")).expect("a writable folder");
        fs::copy(headquarters.keys.join("update_public.pem"), root.resolve("config/update_public.pem")).expect("a key");
        let tree = read_tree(programs).expect("a readable folder");
        let id = updater::version_directory::version_id("1.0.0", &tree_hash(&tree));
        fs::create_dir_all(root.versions()).expect("a writable folder");
        fs::rename(programs, root.versions().join(&id)).expect("a writable folder");
        fs::write(root.versions().join(&id).join("version.txt"), "1.0.0\n").expect("a writable folder");
        fs::write(root.version_file(), "1.0.0\n").expect("a writable folder");
        BootRecord::first(id, Version::new(1, 0, 0)).create(&root.boot_record()).expect("a writable folder");
        run(program("watchdog").args(["reset-pin", "--pin", PIN, "--root"]).arg(root.path())).good();
        Self { folder: folder.to_owned(), old_tree: tree_hash(&tree), root, platform: Platform::Native }
    }

    fn fill(&self) {
        let database = ActiveDatabase::of(&self.root).expect("a database is named");
        let mut store = database.open(self.root.path()).unwrap_or_else(|error| panic!("{error}"));
        let reading = |number: u64| Reading {
            time: Timestamp::now(),
            tag: format!("tag{}", number % 7).into(),
            value: Some(number as f64),
            unit: None,
            quality: Quality::GOOD,
            text: None,
        };
        let readings: Vec<Reading> = (0..READINGS).map(reading).collect();
        let batch = Batch { writer: "collector", from: 0, to: 1, readings: &readings, gaps: &[] };
        store.append(&batch).unwrap_or_else(|error| panic!("{error}"));
    }

    fn publish(&self, headquarters: &Headquarters) -> PathBuf {
        let work = self.folder.join("release");
        fs::create_dir_all(work.join("assets")).expect("a writable folder");
        let collector = self.platform.executable("collector");
        script(&work.join(&collector), "new");
        fs::write(work.join("assets/new.txt"), "new").expect("a writable folder");
        fs::write(work.join("0002_add_alarms.sql"), "CREATE TABLE alarms (id integer PRIMARY KEY);").expect("writable");
        fs::write(work.join("0002_add_alarms.down.sql"), "DROP TABLE alarms;").expect("a writable folder");
        let mut publish = program("publish");
        // Taken in here, and applied wherever the programs run.
        publish.args(["--version", "1.1.0", "--platform", "any", "--files", &collector, "assets", "--json", "--base"]);
        publish.arg(&work);
        publish
            .arg("--migrations")
            .args(["0002_add_alarms.sql", "0002_add_alarms.down.sql"].map(|name| work.join(name)));
        publish.arg("--key").arg(headquarters.keys.join("update_private.pem")).arg("--out").arg(&work);
        run(&mut publish).good();
        work.join("update_v1.1.0.zip")
    }

    /// Takes a package in as one that the agent has received.
    ///
    /// # Panics
    /// If it is refused.
    pub fn take_in(&self, package: &Path) {
        let name = package.file_name().expect("a package has a name");
        fs::copy(package, self.root.incoming().join(name)).expect("a writable folder");
        let settings = config::Settings::read(&self.root).unwrap_or_else(|error| panic!("{error}"));
        pending::take_in(&self.root, &settings, &name.to_string_lossy()).unwrap_or_else(|error| panic!("{error:?}"));
    }

    /// # Panics
    /// If nothing waits, or something is under way.
    pub fn approve(&self) {
        let waiting = pending::read(&self.root).expect("a package waits");
        approval::approve(&self.root, &waiting.manifest_sha256).unwrap_or_else(|error| panic!("{error:?}"));
    }

    /// A copy to spoil.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn copy(&self, to: &Path) -> Self {
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to).expect("a writable folder");
        run(Command::new("cp").arg("-a").arg(self.root.path()).arg(to.join("root"))).good();
        self.elsewhere(to)
    }

    /// The same in another folder, which somebody else fills.
    pub fn elsewhere(&self, folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            root: InstallRoot::new(&folder.join("root")),
            old_tree: self.old_tree.clone(),
            platform: self.platform,
        }
    }

    /// Points the copy at another PostgreSQL database.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn name_database(&self, url: &str) {
        let mut credentials = Credentials::read_file(&self.root.credentials_file()).expect("our own file");
        credentials.database_url = Some(url.to_owned());
        fs::write(self.root.credentials_file(), credentials.to_text()).expect("a writable folder");
    }

    /// Runs to the end; its exit code.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(&self, what: Run) -> Option<i32> {
        started(self.command(what))
    }

    /// Which system calls it makes, and how often each.
    ///
    /// # Panics
    /// If strace cannot be run.
    pub fn record(&self, what: Run) -> BTreeMap<String, u32> {
        let arguments = self.arguments(what);
        record(program("watchdog").get_program().as_ref(), &arguments, &self.folder.join("strace.log"))
    }

    /// Runs it with something happening at one system call; its exit code, `None` if it was killed.
    ///
    /// # Panics
    /// If strace cannot be run.
    pub fn run_with(&self, what: Run, injection: &Injection) -> Option<i32> {
        run_with(program("watchdog").get_program().as_ref(), &self.arguments(what), injection)
    }

    /// Runs it under a strace that is told what to do; its exit code, `None` if it was killed.
    ///
    /// # Panics
    /// If strace cannot be run.
    pub fn run_under(&self, mut strace: Command, what: Run) -> Option<i32> {
        strace.arg(program("watchdog").get_program()).args(self.arguments(what));
        started(strace)
    }

    /// Stops it at one system call, does something, and lets it go on; its exit code, `None` if it did not come so far.
    ///
    /// # Panics
    /// If strace cannot be run.
    pub fn run_with_a_stop(&self, what: Run, injection: &Injection, meanwhile: impl FnOnce()) -> Option<i32> {
        let Injection { call, occurrence, what: happens } = injection;
        let log = self.folder.join("stop.log");
        let mut strace = Command::new("strace");
        strace.args([
            "-f",
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:{happens}:when={occurrence}"),
        ]);
        strace.arg("-o").arg(&log).arg(program("watchdog").get_program()).args(self.arguments(what));
        let mut child = spawned(strace);
        let stopped = wait_for("the process to stop or end", Duration::from_secs(60), || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let stop = text.lines().find(|line| line.ends_with("--- stopped by SIGSTOP ---"));
            let process = stop.and_then(|line| line.split(' ').next()?.parse().ok());
            let ended = child.try_wait().expect("our own child").is_some();
            (process.is_some() || ended).then(|| process.and_then(Pid::from_raw))
        })?;
        meanwhile();
        kill_process(stopped, Signal::CONT).expect("a process that is stopped");
        wait_for("the process to end", Duration::from_secs(120), || child.try_wait().expect("our own child")).code()
    }

    /// Runs it and kills it when one of its threads makes this system call for the so-manieth time, counted from one; its
    /// exit code, `None` if it was killed.
    ///
    /// # Panics
    /// If strace cannot be run.
    pub fn run_and_kill(&self, what: Run, calls: &str, occurrence: u32) -> Option<i32> {
        run_and_kill(&self.command(what), calls, occurrence)
    }

    /// As [`count`], of a run.
    ///
    /// # Panics
    /// If strace cannot be run, or it does not end well.
    pub fn count(&self, what: Run, calls: &str) -> u32 {
        count(&self.command(what), calls, &self.folder.join("strace.log"))
    }

    /// `watchdog`, as it runs on this kind of plant PC.
    fn command(&self, what: Run) -> Command {
        let mut command = self.platform.program("watchdog");
        command.args(self.arguments(what));
        command
    }

    /// As [`Bench::run`], with what it says.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run_and_hear(&self, what: Run) -> Ended {
        run(&mut self.command(what))
    }

    /// Of `watchdog`.
    pub fn arguments(&self, what: Run) -> Vec<String> {
        let root = self.platform.path(self.root.path()).to_string_lossy().into_owned();
        let words: &[&str] = match what {
            Run::Apply => &["apply", "--root", &root],
            Run::Start => &["settle", "--cause", "start", "--root", &root],
            Run::Passed => &["settle", "--cause", "passed", "--root", &root],
            Run::Restore => &["restore", "1", "--pin", PIN, "--root", &root],
            Run::Failed => &["settle", "--cause", "failed", "--error", "tried", "--root", &root],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Brings the root to rest as the launcher does, a trial being passed; which version it is then at, all its parts
    /// together.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn settle(&self) -> Result<At, String> {
        self.expect_good(Run::Start)?;
        if self.record_now()?.phase == Phase::Trial {
            self.expect_good(Run::Passed)?;
        }
        // As at the next start: what a full disk has kept from being shown.
        self.expect_good(Run::Start)?;
        self.check()
    }

    fn expect_good(&self, what: Run) -> Result<(), String> {
        match self.run(what) {
            Some(0) => Ok(()),
            code => Err(format!("{what:?} ended with {code:?}")),
        }
    }

    fn record_now(&self) -> Result<BootRecord, String> {
        BootRecord::read(&self.root.boot_record()).map_err(|error| error.to_string())
    }

    /// Version directory, schema, `version.txt`, log and readings belong to one and the same version.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<At, String> {
        let record = self.record_now()?;
        if record.phase != Phase::Committed {
            return Err(format!("the phase is {:?}", record.phase));
        }
        let at = if record.current.starts_with("1.1.0-") { At::New } else { At::Old };
        let tree =
            tree_hash(&read_tree(&self.root.versions().join(&record.current)).map_err(|error| error.to_string())?);
        if !record.current.ends_with(&tree[..8]) || (tree == self.old_tree) != (at == At::Old) {
            return Err(format!("{} holds the tree {tree}", record.current));
        }
        let shown = fs::read_to_string(self.root.version_file()).map_err(|error| error.to_string())?;
        let expected = if at == At::New { "1.1.0" } else { "1.0.0" };
        if shown.trim() != expected {
            return Err(format!("version.txt says {shown} and {} runs", record.current));
        }
        let database = ActiveDatabase::of(&self.root).map_err(|failure| failure.message)?;
        // Opens only with the schema that belongs to the version.
        let mut store = database.open(self.root.path()).map_err(|error| error.to_string())?;
        let head = store.head().map_err(|error| error.to_string())?;
        if head.last_seq != READINGS {
            return Err(format!("{} readings instead of {READINGS}", head.last_seq));
        }
        let mut values = Vec::new();
        let span = Span::all(head.first_seq, head.last_seq);
        store.read(span, &mut |row| values.extend(row.value)).map_err(|error| error.to_string())?;
        if values != (0..READINGS).map(|number| number as f64).collect::<Vec<_>>() {
            return Err(format!("the readings are {values:?}"));
        }
        let lines = updater::update_log::newest(&self.root, 100);
        let status = if lines.first().is_some_and(|line| line.to_version == expected) { "ok" } else { "failed" };
        if lines.len() as u64 != record.attempts || lines[0].status != status {
            return Err(format!("{} attempts, and the log has {lines:?}", record.attempts));
        }
        Ok(at)
    }
}

/// Which system calls a program makes, and how often each.
///
/// # Panics
/// If strace cannot be run, or the program does not end well.
pub fn record(executable: &Path, arguments: &[String], log: &Path) -> BTreeMap<String, u32> {
    let mut command = Command::new("strace");
    command.arg("-o").arg(log).args(["-e", &format!("trace={CHANGING}")]).arg(executable).args(arguments);
    assert_eq!(started(command), Some(0), "an undisturbed run ends well");
    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(log).expect("strace has written a log").lines() {
        if let Some((call, _)) = line.split_once('(') {
            *calls.entry(call.rsplit(' ').next().unwrap_or(call).to_owned()).or_insert(0) += 1;
        }
    }
    calls
}

/// Runs a program with something happening at one system call; its exit code, `None` if it was killed.
///
/// # Panics
/// If strace cannot be run.
pub fn run_with(executable: &Path, arguments: &[String], injection: &Injection) -> Option<i32> {
    let Injection { call, occurrence, what: happens } = injection;
    let mut command = Command::new("strace");
    command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:{happens}:when={occurrence}")]);
    started({
        command.arg(executable).args(arguments);
        command
    })
}

/// Runs a command and kills it when one of its threads makes one of these system calls for the so-manieth time, counted from
/// one; its exit code, `None` if it was killed.
///
/// # Panics
/// If strace cannot be run.
pub fn run_and_kill(command: &Command, calls: &str, occurrence: u32) -> Option<i32> {
    started(traced(&["-f", "-qq", "-o", "/dev/null"], calls, Some(occurrence), command))
}

/// How often one thread of a command makes one and the same of these system calls, at the most: strace counts each by itself.
///
/// # Panics
/// If strace cannot be run, or the command does not end well.
pub fn count(command: &Command, calls: &str, log: &Path) -> u32 {
    let to = log.to_string_lossy();
    assert_eq!(started(traced(&["-f", "-qq", "-o", &to], calls, None, command)), Some(0));
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for line in fs::read_to_string(log).expect("strace has written a log").lines() {
        if let Some((thread_and_call, _)) = line.split_once('(') {
            *counts.entry(thread_and_call.to_owned()).or_default() += 1;
        }
    }
    counts.into_values().max().unwrap_or(0)
}

/// A command under strace, which kills it at an occurrence of these calls.
fn traced(options: &[&str], calls: &str, kill_at: Option<u32>, command: &Command) -> Command {
    let mut strace = Command::new("strace");
    strace.args(options).args(["-e", &format!("trace={calls}")]);
    if let Some(occurrence) = kill_at {
        strace.args(["-e", &format!("inject={calls}:signal=KILL:when={occurrence}")]);
    }
    strace.arg(command.get_program()).args(command.get_args());
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace
}

/// With the word on its standard input that the collector spools; the exit code, `None` if it was killed.
fn started(command: Command) -> Option<i32> {
    let mut child = spawned(command);
    // Not `wait` by itself, which would close its input first.
    let input = child.stdin.take();
    // Whatever is done to it, it ends.
    let status = wait_for("the process to end", Duration::from_secs(120), || child.try_wait().expect("our own child"));
    drop(input);
    status.code().filter(|code| *code < 128)
}

fn spawned(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let input = child.stdin.as_mut().expect("piped above");
    let _ = input.write_all(format!("{}\n", updater::apply::SPOOLING).as_bytes());
    child
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, format!("#!/bin/sh\n# {text}\n")).expect("a writable folder");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}
