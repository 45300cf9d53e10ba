//! Programs in Python that are the other side of something: device servers from PyPI, in versions that are named here.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::programs::{Ended, run};

/// A virtual environment with these packages, made once and kept.
///
/// # Panics
/// Without python3-venv, or without a way to PyPI.
pub fn environment(name: &str, packages: &[&str]) -> PathBuf {
    try_environment(name, packages).unwrap_or_else(|ended| panic!("{ended:?}"))
}

/// As [`environment`], where one can do without.
///
/// # Errors
/// What `venv` or `pip` has said.
///
/// # Panics
/// If nothing can be written below `target`.
pub fn try_environment(name: &str, packages: &[&str]) -> Result<PathBuf, Ended> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).join("target/python");
    std::fs::create_dir_all(&folder).expect("a folder below target");
    // Of several test programs that need it at once, one makes it.
    let lock = File::create(folder.join(format!("{name}.lock"))).expect("a file below target");
    lock.lock().expect("a lock");
    let (place, mark) = (folder.join(name), folder.join(format!("{name}.txt")));
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(place);
    }
    let _ = std::fs::remove_dir_all(&place);
    let succeeds = |command: &mut Command| Some(run(command)).filter(|ended| ended.code != Some(0)).map_or(Ok(()), Err);
    succeeds(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    let pip = ["install", "--quiet", "--disable-pip-version-check"];
    succeeds(Command::new(place.join("bin/pip")).args(pip).args(packages))?;
    std::fs::write(mark, wanted).expect("a file below target");
    Ok(place)
}

/// A server that tells its port on its first line, and does what lines on its standard input say.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// # Panics
    /// If it does not start.
    pub fn start(environment: &Path, script: &Path, arguments: &[&str]) -> Self {
        let mut python = Command::new(environment.join("bin/python"));
        python.arg("-B").arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a pipe");
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{} said {line:?}", script.display()));
        Self { child, port }
    }

    /// # Panics
    /// If it is no more.
    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("a server that listens");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
