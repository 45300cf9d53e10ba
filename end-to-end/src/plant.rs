//! A plant PC: an install root and its running watchdog.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use config::InstallRoot;
use protocol::control::PlantStatus;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use updater::database::ActiveDatabase;

use crate::headquarters::Headquarters;
use crate::programs::{Platform, run};
use crate::wait_for;

/// An install root, running or not.
pub struct Plant {
    pub root: PathBuf,
    pub database: String,
    pub platform: Platform,
    running: Option<Child>,
    /// Overrides of `config.txt`.
    settings: Vec<(String, String)>,
    /// Further arguments of `watchdog run`.
    pub run_with: Vec<String>,
    /// Under which it is started, as a service manager may have set it.
    pub umask: Option<u32>,
    /// And what it finds in its environment.
    pub environment: Vec<(String, String)>,
}

pub const PIN: &str = "482915";
const START_WITHIN: Duration = Duration::from_secs(30);

impl Plant {
    /// Lays out an install root with a simulated line of `tags`.
    ///
    /// # Panics
    /// If `watchdog init` fails.
    pub fn init(root: &Path, headquarters: &Headquarters, database: &str, tags: u32, license: Option<&Path>) -> Self {
        Self::init_on(Platform::Native, root, headquarters, database, tags, license)
    }

    /// The same on a plant PC of this kind.
    ///
    /// # Panics
    /// If `watchdog init` fails.
    pub fn init_on(
        platform: Platform,
        root: &Path,
        headquarters: &Headquarters,
        database: &str,
        tags: u32,
        license: Option<&Path>,
    ) -> Self {
        let mut command = platform.program("watchdog");
        command.arg("init").arg("--root").arg(platform.path(root));
        command.arg("--keys").arg(platform.path(&headquarters.keys));
        command.args(["--database", database, "--pin", PIN, "--simulator", &tags.to_string()]);
        if let Some(license) = license {
            command.arg("--license").arg(platform.path(license));
        }
        run(&mut command).good();
        let any = ["AGENT_PORT", "PORTAL_PORT", "METRICS_PORT"].map(|key| (key.to_owned(), "0".to_owned()));
        let (root, database) = (root.to_owned(), database.to_owned());
        Self {
            root,
            database,
            platform,
            running: None,
            settings: any.into(),
            run_with: Vec::new(),
            umask: None,
            environment: Vec::new(),
        }
    }

    /// Overrides a key of `config.txt` from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// `watchdog run`, started and not waited for. It goes with this process: its standard input is a pipe from here.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(&mut self) {
        let mut command = match self.umask {
            None => self.command("watchdog"),
            Some(umask) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("umask {umask:03o} && exec \"$0\" \"$@\"")]).arg(self.root.join("watchdog"));
                self.configure(&mut shell);
                shell
            }
        };
        command.arg("run").arg("--root").arg(self.platform.path(&self.root)).args(&self.run_with);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.spawn(command);
    }

    /// As [`Self::start`], in a boot of the machine that has this id, with processes of its own that
    /// [`Self::cut_power`] ends. Namespaces do it; the product knows nothing of them.
    ///
    /// # Panics
    /// If the operating system does not permit that here.
    pub fn start_in_boot(&mut self, boot: &str) {
        let id = self.root.with_extension("boot_id");
        std::fs::write(&id, format!("{boot}\n")).expect("a writable folder");
        let mut namespaces = vec!["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        if !rustix::process::geteuid().is_root() {
            namespaces.push("--map-root-user");
        }
        let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        let unshared = |program: &Path| {
            let mut command = Command::new("unshare");
            command.args(&namespaces).args(["sh", "-c", script]).arg(&id).arg(program).stdin(Stdio::null());
            command
        };
        let tried = run(unshared("cat".as_ref()).arg("/proc/sys/kernel/random/boot_id"));
        assert_eq!(
            tried.output.trim(),
            boot,
            "a power cut cannot be played here, which takes unshare(1) and the right to mount: {}",
            tried.errors
        );
        let mut command = unshared(&self.root.join("watchdog"));
        command.arg("run").arg("--root").arg(&self.root);
        self.configure(&mut command);
        self.spawn(command);
    }

    /// Ends every process of the plant at one and the same moment, with no time for anything. Started again it may be in
    /// another boot, or in the same.
    ///
    /// # Panics
    /// If it was not started by [`Self::start_in_boot`].
    pub fn cut_power(&mut self) {
        let mut child = self.running.take().expect("the plant was started");
        let pid = child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        // The first process of a namespace takes all others with it.
        let first = children.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        kill_process(first.expect("unshare has a child"), Signal::KILL).expect("our own child");
        child.wait().expect("our own child");
    }

    fn spawn(&mut self, mut command: Command) {
        let log = std::fs::File::create(self.root.join("logs/watchdog.log")).expect("the root has a folder for logs");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        // In a group of its own, so that a Ctrl-C at the terminal reaches it through the pipe alone.
        let child = command.env("PLANTLINK_SUPERVISED", "1").process_group(0).spawn();
        self.running = Some(child.expect("init has laid a watchdog there"));
    }

    /// Starts it and waits until all children run.
    ///
    /// # Panics
    /// If they do not.
    pub fn start_and_wait(&mut self) -> PlantStatus {
        self.start();
        self.wait_until_running()
    }

    /// # Panics
    /// If not all children run in time.
    pub fn wait_until_running(&self) -> PlantStatus {
        let all_run = |status: &PlantStatus| {
            status.children.iter().all(|child| child.state.word() == "running" && child.address.is_some())
        };
        let mut last = None;
        let deadline = std::time::Instant::now() + START_WITHIN;
        while std::time::Instant::now() < deadline {
            last = self.status();
            if let Some(status) = last.take_if(|status| all_run(status)) {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("not all children run: {last:?}\n{}", self.logs());
    }

    pub fn install_root(&self) -> InstallRoot {
        InstallRoot::new(&self.root)
    }

    /// One of the root's own programs, with this plant's settings.
    pub fn command(&self, name: &str) -> Command {
        let mut command = match name {
            "watchdog" => self.platform.run(&self.root.join(self.platform.executable(name))),
            name => self.platform.program(name),
        };
        self.configure(&mut command);
        command
    }

    fn configure(&self, command: &mut Command) {
        for (key, value) in &self.settings {
            command.env(format!("PLANTLINK_{key}"), value);
        }
    }

    /// What `watchdog status --json` says; `None` while nobody answers.
    pub fn status(&self) -> Option<PlantStatus> {
        let mut command = self.platform.program("watchdog");
        let ended = run(command.args(["status", "--json", "--root"]).arg(self.platform.path(&self.root)));
        (ended.code == Some(0)).then(|| serde_json::from_str(&ended.output).expect("status prints JSON"))
    }

    /// # Panics
    /// If the child has no address.
    pub fn address(&self, child: &str) -> String {
        wait_for(&format!("the address of {child}"), START_WITHIN, || {
            self.status()?.children.into_iter().find(|other| other.name == child)?.address
        })
    }

    /// The port that HQ connects to.
    ///
    /// # Panics
    /// If the agent has none.
    pub fn agent_port(&self) -> u16 {
        let address = self.address("agent");
        address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address ends with a port")
    }

    /// # Panics
    /// If the child does not run.
    pub fn pid(&self, child: &str) -> Pid {
        let pid = self.status().and_then(|status| status.children.into_iter().find(|other| other.name == child)?.pid);
        pid.and_then(|pid| Pid::from_raw(pid.cast_signed()))
            .unwrap_or_else(|| panic!("{child} does not run\n{}", self.logs()))
    }

    /// Process id of the launcher.
    ///
    /// # Panics
    /// If it was never started.
    pub fn launcher(&self) -> Pid {
        let child = self.running.as_ref().expect("the plant was started");
        Pid::from_child(child)
    }

    /// Process id of the running version's `watchdog supervise`.
    ///
    /// # Panics
    /// If there is none.
    pub fn supervisor(&self) -> Pid {
        let launcher = self.launcher().as_raw_nonzero();
        let children = std::fs::read_dir(format!("/proc/{launcher}/task")).into_iter().flatten().flatten();
        let children = children.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let child = children.flat_map(|pids| pids.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).next();
        child.and_then(|pid| Pid::from_raw(pid.parse().ok()?)).expect("a running watchdog has a supervisor")
    }

    /// Asks it to stop as a service manager does, and waits for it.
    ///
    /// # Panics
    /// If it does not end well.
    pub fn stop(&mut self) {
        self.stop_with(0);
    }

    /// As [`Self::stop`], with another exit code.
    ///
    /// # Panics
    /// If it ends with another one.
    pub fn stop_with(&mut self, code: i32) {
        let Some(mut child) = self.running.take() else { return };
        match self.platform {
            Platform::Native => kill_process(Pid::from_child(&child), Signal::TERM).expect("our own child"),
            Platform::Windows => drop(child.stdin.take()),
        }
        let status = child.wait().expect("our own child");
        assert_eq!(status.code(), Some(code), "the watchdog ended with {status}\n{}", self.logs());
    }

    /// `kill -9` of the launcher alone.
    ///
    /// # Panics
    /// If it was never started.
    pub fn kill_launcher(&mut self) {
        let mut child = self.running.take().expect("the plant was started");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }

    /// The logs of all programs, for a story that went wrong.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in std::fs::read_dir(self.root.join("logs")).into_iter().flatten().flatten() {
            logs += &format!("--- {}\n", entry.path().display());
            let Ok(file) = std::fs::File::open(entry.path()) else { continue };
            let lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
            logs += &lines[lines.len().saturating_sub(20)..].join("\n");
            logs.push('\n');
        }
        logs
    }

    /// Whether a log has this text.
    ///
    /// # Panics
    /// If one cannot be read.
    pub fn logs_have(&self, text: &str) -> bool {
        let files = std::fs::read_dir(self.root.join("logs")).expect("the root has a folder for logs").flatten();
        files.into_iter().any(|file| {
            let log = std::fs::read(file.path()).expect("a readable log");
            String::from_utf8_lossy(&log).contains(text)
        })
    }

    /// Readings that the store holds.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn stored(&self) -> u64 {
        // A database of SQLite is locked by its system's own means, which say nothing to programs of another one.
        if self.platform == Platform::Windows && self.running.is_some() {
            let collected = self.status().and_then(|status| status.collected).unwrap_or_default();
            return collected.readings_total.saturating_sub(collected.spool_readings);
        }
        let root = self.install_root();
        let database = ActiveDatabase::of(&root).unwrap_or_else(|error| panic!("{error}"));
        let store = database.open(root.path());
        store.unwrap_or_else(|error| panic!("{error}")).head().unwrap_or_else(|error| panic!("{error}")).last_seq
    }

    /// # Panics
    /// If the store does not hold so many in time.
    pub fn wait_for_readings(&self, at_least: u64) -> u64 {
        wait_for(&format!("{at_least} stored readings"), START_WITHIN, || {
            let stored = self.stored();
            (stored >= at_least).then_some(stored)
        })
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        drop(child.stdin.take());
        let pid = Pid::from_child(&child);
        for _ in 0..1000 {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // It did not go by itself; its children go with their standard input.
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = child.wait();
    }
}
