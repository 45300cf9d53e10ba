//! The programs built for Windows on Debian, and run under Wine.
//!
//! Debian's own compiler builds its standard library for Windows; no other one has to be fetched. Wine shows that logic,
//! paths, processes and the replacing of files hold; NTFS and the service manager it only plays.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use crate::needs::Need;
use crate::programs::{run, workspace};

/// To build.
pub const BUILD_NEEDS: [Need; 4] = [
    Need { file: "/usr/bin/rustc", package: "rustc-web" },
    Need { file: "/usr/bin/cargo", package: "cargo-web" },
    Need { file: "/usr/lib/rustlib/src/rust/library/std/Cargo.toml", package: "rust-web-src" },
    Need { file: "/usr/bin/x86_64-w64-mingw32-gcc", package: "mingw-w64" },
];
/// To run as well.
pub const RUN_NEEDS: [Need; 3] = [
    Need { file: LOADER, package: "wine64" },
    Need { file: "/usr/bin/wine", package: "wine" },
    Need { file: "/usr/bin/strace", package: "strace" },
];
const LOADER: &str = "/usr/lib/wine/wine64";
const SERVER: &str = "/usr/lib/wine/wineserver64";
const TARGET: &str = "x86_64-pc-windows-gnu";
/// Everything else is not optimised, as compiling it would take longer than it is run.
const OPTIMISED: [&str; 10] =
    ["argon2", "blake2", "crc32fast", "libsqlite3-sys", "num-bigint-dig", "pbkdf2", "rsa", "salsa20", "scrypt", "sha2"];
/// Their tests, or they themselves, are of this system.
const LEFT_OUT: [&str; 3] = ["end-to-end", "private-postgres", "packaging"];

/// Debian's cargo with this verb on all programs, for Windows.
fn cargo(verb: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/cargo");
    command.args([verb, "--quiet", "-Zbuild-std=std,panic_unwind", "--target", TARGET, "--workspace"]);
    command.args(LEFT_OUT.iter().flat_map(|package| ["--exclude", *package]));
    command.arg("--target-dir").arg(target()).args(arguments).current_dir(workspace()).stdin(Stdio::null());
    // Debian's own pair of compiler and source; the caller's toolchain has no source to build the library from.
    command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1").env("CARGO", "/usr/bin/cargo");
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTFLAGS");
    command
}

/// The same for a moment's use.
fn cargo_for_tests(verb: &str, arguments: &[&str]) -> Command {
    let mut command = cargo(verb, arguments);
    command.args(["--config", "profile.dev.package.\"*\".opt-level=0"]);
    for package in OPTIMISED {
        command.args(["--config", &format!("profile.dev.package.{package}.opt-level=2")]);
    }
    command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_DEV_STRIP", "symbols");
    command
}

/// Builds all programs, with the features that tests have, so that nothing is compiled twice.
pub fn build() -> Command {
    cargo_for_tests("build", &["--bins", "--test", "packages"])
}

/// Builds what people install, optimised, and takes eight minutes for it on two cores.
pub fn release_build() -> Command {
    cargo("build", &["--bins", "--release"])
}

/// Unit tests of all crates, and those of packages, under Wine.
pub fn unit_tests() -> Command {
    let mut command = cargo_for_tests("test", &["--lib", "--test", "packages"]);
    name_to(&SHARED.prefix, &mut command);
    command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", LOADER);
    command
}

fn target() -> PathBuf {
    workspace().join("target/windows")
}

/// One of the built programs.
pub fn built(name: &str) -> PathBuf {
    target().join(TARGET).join("debug").join(executable(name))
}

pub fn executable(name: &str) -> String {
    format!("{name}.exe")
}

/// As programs of Windows know an absolute path of this system.
pub fn path(path: &Path) -> OsString {
    format!("Z:{}", path.display()).replace('/', "\\").into()
}

/// A command that runs a program on the machine that all share.
pub fn wine(program: &Path) -> Command {
    SHARED.run(program)
}

/// Made once, and kept for the next time.
static SHARED: LazyLock<Machine> = LazyLock::new(|| Machine::start(&target().join("wine-prefix"), None));

/// A machine with Windows, as far as Wine plays one: its drive C:, its registry and its services are in a folder.
pub struct Machine {
    prefix: PathBuf,
    /// Wine's server and services are started by the first program, and hold on to its pipes for as long as anything runs.
    /// They are up, with pipes that nobody waits for, when this one has begun to speak. It ends with the machine's user.
    keeper: Child,
}

impl Machine {
    /// Starts it, and installs it where there is none yet. What services report is written to `event_log`.
    ///
    /// # Panics
    /// If Wine or the compiler is not there.
    pub fn start(prefix: &Path, event_log: Option<&Path>) -> Self {
        let library = prefix.join("drive_c/windows/system32/bcryptprimitives.dll");
        if !library.exists() {
            std::fs::create_dir_all(prefix).expect("a writable folder");
            let mut boot = wine_in(prefix);
            boot.args(["wineboot", "--init"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            assert!(boot.status().is_ok_and(|status| status.success()), "{boot:?}");
            // Wine 8 lacks what Rust's standard library asks for random numbers. Never shipped.
            compile("bcryptprimitives.c", &library, &["-shared", "-ladvapi32"]);
        }
        let mut keeper = wine_in(prefix);
        keeper.arg("cmd.exe").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(file) = event_log {
            // Services write where the first program does, which has to be this one.
            stop_server(prefix);
            keeper.env("WINEDEBUG", "-all,trace+eventlog,warn+eventlog,err+eventlog");
            keeper.stderr(File::create(file).expect("a writable folder"));
        }
        let mut child = keeper.spawn().unwrap_or_else(|error| panic!("{keeper:?}: {error}"));
        let banner = child.stdout.as_mut().expect("piped above").read_exact(&mut [0]);
        banner.unwrap_or_else(|error| panic!("{keeper:?}: {error}"));
        Self { prefix: prefix.to_owned(), keeper: child }
    }

    /// A command that runs a program on it.
    pub fn run(&self, program: &Path) -> Command {
        let mut command = wine_in(&self.prefix);
        command.arg(program).stdin(Stdio::null());
        command
    }
}

/// With it ends all that runs on the machine.
impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        stop_server(&self.prefix);
    }
}

fn wine_in(prefix: &Path) -> Command {
    let mut command = Command::new(LOADER);
    name_to(prefix, &mut command);
    command
}

fn name_to(prefix: &Path, command: &mut Command) {
    command.env("WINEPREFIX", prefix).env("WINELOADER", LOADER).env("WINEDEBUG", "-all");
}

fn stop_server(prefix: &Path) {
    for order in ["--kill", "--wait"] {
        let mut server = Command::new(SERVER);
        name_to(prefix, server.arg(order).stderr(Stdio::null()));
        // One that does not run has nothing to stop.
        let _ = server.status();
    }
}

/// A program on the machine that all share, which holds every file below a folder for so long that is new or changes;
/// `None`: for ever.
pub struct Scanner(Child);

impl Scanner {
    /// # Panics
    /// If it cannot be built.
    pub fn start(work: &Path, folder: &Path, holds: Option<Duration>) -> Self {
        let program = work.join("scanner.exe");
        compile("scanner.c", &program, &["-municode"]);
        let mut command = wine(&program);
        command.arg(path(folder)).arg(holds.map_or(0, |holds| holds.as_millis()).to_string());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("Wine is there");
        let begun = child.stdout.as_mut().expect("piped above").read_exact(&mut [0]);
        begun.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self(child)
    }

    /// Lets go of everything; how often it held a file.
    ///
    /// # Panics
    /// If it has ended by itself.
    pub fn end(mut self) -> usize {
        self.0.kill().expect("it runs");
        let mut said = String::new();
        self.0.stdout.take().expect("piped above").read_to_string(&mut said).expect("plain words");
        said.lines().filter(|line| *line == "holds").count()
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Compiles one of the little programs beside this file for Windows.
fn compile(source: &str, to: &Path, options: &[&str]) {
    let mut compiler = Command::new("/usr/bin/x86_64-w64-mingw32-gcc");
    compiler.arg("-o").arg(to).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(source)).args(options);
    run(&mut compiler).good();
}
