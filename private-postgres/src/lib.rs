//! A PostgreSQL server of one's own, for the demo, the tests and the benchmarks.
//!
//! [`PrivatePostgres::start`] makes a cluster in a temporary folder, starts it on a free port of loopback, and ends and
//! removes it when dropped. It goes as well when the process that started it is killed: a shell holds the other end of a
//! pipe and cleans up once that closes.

#![cfg(unix)]

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Holds every character that is special in a URL, so that nothing works by luck.
pub const PASSWORD: &str = "p@ss:w/o#r%d? &=";
const PASSWORD_IN_URL: &str = "p%40ss%3Aw%2Fo%23r%25d%3F%20%26%3D";
const USER: &str = "plant";

/// A running server.
pub struct PrivatePostgres {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    keeper: Child,
    databases: AtomicU32,
}

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Certificate and key in PEM: the server then offers TLS.
    pub tls: Option<(String, String)>,
    /// `name=value` settings.
    pub settings: Vec<String>,
    /// How a client proves who it is, as `pg_hba.conf` names it: `scram-sha-256` unless said otherwise.
    pub authentication: Option<&'static str>,
}

impl PrivatePostgres {
    /// # Errors
    /// In words for a person: which package is missing, or what the server said.
    pub fn start(options: &Options) -> Result<Self, String> {
        let binaries = find_binaries().ok_or(
            "PostgreSQL's server programs (initdb, postgres) were not found; install them, on Debian: apt-get install postgresql",
        )?;
        let folder = make_folder(options)?;
        let mut last = String::new();
        // The free port may be taken by another between our look and the server's bind.
        for _ in 0..5 {
            let port = free_port().map_err(|error| format!("no free port: {error}"))?;
            let keeper = start_server(&binaries, &folder, port, options).map_err(|error| error.to_string())?;
            let mut server =
                Self { binaries: binaries.clone(), folder: folder.clone(), port, keeper, databases: AtomicU32::new(0) };
            match server.wait_until_ready() {
                Ok(()) => return Ok(server),
                Err(error) => last = error,
            }
            // Dropping the failed server removes the folder; only a port that was taken is worth another try.
            if !last.contains("Address already in use") {
                break;
            }
        }
        Err(format!("the private PostgreSQL did not start: {last}"))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database that nobody else uses, made now.
    ///
    /// # Panics
    /// If the server does not make it.
    pub fn new_database(&self) -> String {
        let name = format!("plant{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a new database that holds what the one of this URL holds. Nobody may be connected to that.
    ///
    /// # Panics
    /// If `psql` fails.
    pub fn copy_of(&self, url: &str) -> String {
        let name = format!("plant{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let template = url.rsplit('/').next().unwrap_or_default();
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        self.url(&name)
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}", self.port)
    }

    /// [`PrivatePostgres::url`] by way of the server's Unix socket.
    pub fn socket_url(&self, database: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://{USER}:{PASSWORD_IN_URL}@{folder}:{}/{database}", self.port)
    }

    /// `psql` as the superuser, connected by loopback.
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER, "-d", database])
            .args(["-p", &self.port.to_string()])
            .env("PGPASSWORD", PASSWORD);
        psql
    }

    /// Runs SQL with `psql` as the superuser and returns what it prints, unaligned.
    ///
    /// # Panics
    /// If `psql` fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database).args(["-c", sql]).output().expect("psql is beside postgres");
        assert!(output.status.success(), "psql -c {sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// What `pg_dump` makes of a database.
    ///
    /// # Panics
    /// If it fails.
    pub fn dump(&self, url: &str) -> Vec<u8> {
        let output = Command::new(self.binaries.join("pg_dump")).arg(url).output().expect("pg_dump is beside postgres");
        assert!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Runs a file of SQL, such as a dump, on an empty database.
    ///
    /// # Panics
    /// If `psql` fails.
    pub fn load(&self, url: &str, file: &Path) {
        let output = Command::new(self.binaries.join("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f"])
            .arg(file)
            .output()
            .expect("psql is beside postgres");
        assert!(output.status.success(), "psql -f: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `kill -9` of the whole server, as a power cut would: no checkpoint, no goodbye.
    pub fn kill(&mut self) {
        let pid_file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
        if let Some(pid) =
            pid_file.lines().next().and_then(|line| line.parse().ok()).and_then(rustix::process::Pid::from_raw)
        {
            // The postmaster leads a process group of its own, with all of its backends in it.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let gone = Instant::now() + Duration::from_secs(10);
            while rustix::process::test_kill_process(pid).is_ok() && Instant::now() < gone {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Starts it again on the same port after [`PrivatePostgres::kill`].
    ///
    /// # Errors
    /// What the server said.
    pub fn start_again(&mut self) -> Result<(), String> {
        // The old keeper's end must not remove the folder: it is told to leave it.
        let _ = std::fs::write(self.folder.join("keep"), b"");
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = std::fs::remove_file(self.folder.join("keep"));
        self.keeper = start_server(&self.binaries, &self.folder, self.port, &Options::default())
            .map_err(|error| error.to_string())?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let ready = Command::new(self.binaries.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .map_err(|error| error.to_string())?;
            if ready.success() {
                return Ok(());
            }
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            if log.contains("could not create any TCP/IP sockets")
                || log.contains("initdb failed")
                || Instant::now() > deadline
            {
                return Err(log);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn find_binaries() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::split_paths(&on_path));
    folders.into_iter().find(|folder| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).exists()))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// PostgreSQL refuses to run as root; then its own user from Debian's package is used.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command.current_dir("/").env_remove("PGDATA");
    command
}

fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<&str> = users.lines().find(|line| line.starts_with("postgres:"))?.split(':').collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// What `initdb` and the server need; the keeper runs both, so that the folder is its to remove from the start.
fn make_folder(options: &Options) -> Result<PathBuf, String> {
    let folder = tempfile::Builder::new().prefix("private-postgres-").tempdir().map_err(|error| error.to_string())?;
    let owned = |path: &Path| match unprivileged() {
        Some((user, group)) => std::os::unix::fs::chown(path, Some(user), Some(group)),
        None => Ok(()),
    };
    let write = |name: &str, text: &str| -> io::Result<()> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        owned(&path)
    };
    let prepare = || -> io::Result<()> {
        owned(folder.path())?;
        write("password", PASSWORD)?;
        if let Some((certificate, key)) = &options.tls {
            write("server.pem", certificate)?;
            write("server.key", key)?;
        }
        Ok(())
    };
    prepare().map_err(|error| error.to_string())?;
    Ok(folder.keep())
}

/// The shell ends the server and removes the folder as soon as its standard input closes, however that came about.
const KEEPER: &str = r#"
folder=$1; initdb=$2; user=$3; authentication=$4; shift 4
if [ -d "$folder/data" ] || "$initdb" --username "$user" --auth "$authentication" --encoding UTF8 --locale C --no-sync \
    --pwfile "$folder/password" --pgdata "$folder/data" >"$folder/log" 2>&1 </dev/null
then
    "$@" >>"$folder/log" 2>&1 </dev/null &
    server=$!
else
    echo "initdb failed" >>"$folder/log"
fi
cat >/dev/null
# Again and again: one that has only just been started does not listen to signals yet.
while [ -n "$server" ] && kill -INT "$server" 2>/dev/null; do sleep 0.1; done
wait
[ -e "$folder/keep" ] || rm -rf "$folder"
"#;

fn start_server(binaries: &Path, folder: &Path, port: u16, options: &Options) -> io::Result<Child> {
    let mut keeper = command(Path::new("/bin/sh"));
    keeper
        .args(["-c", KEEPER, "keeper"])
        .arg(folder)
        .arg(binaries.join("initdb"))
        .arg(USER)
        .arg(options.authentication.unwrap_or("scram-sha-256"))
        .arg(binaries.join("postgres"));
    keeper.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"]).arg(folder);
    if options.tls.is_some() {
        let file = |name: &str| folder.join(name).display().to_string();
        keeper.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={}", file("server.pem"))]);
        keeper.args(["-c", &format!("ssl_key_file={}", file("server.key"))]);
    }
    for setting in &options.settings {
        keeper.args(["-c", setting]);
    }
    // In a group of its own, so that a Ctrl-C at the terminal reaches it through the pipe alone.
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()
}
