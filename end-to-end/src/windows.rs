//! The programs built for Windows on Debian, and run under Wine.
//!
//! Debian's own compiler builds its standard library for Windows; no other one has to be fetched. Wine shows that logic,
//! paths, processes and the replacing of files hold; NTFS and the service manager it only plays.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

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
const TARGET: &str = "x86_64-pc-windows-gnu";
/// Everything else is not optimised, as compiling it would take longer than it is run.
const OPTIMISED: [&str; 7] = ["argon2", "blake2", "crc32fast", "libsqlite3-sys", "num-bigint-dig", "rsa", "sha2"];
/// Their tests, or they themselves, are of this system.
const LEFT_OUT: [&str; 4] = ["end-to-end", "private-postgres", "packaging", "readings"];

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

/// Builds what people install, optimised, and takes twenty minutes for it on two cores.
pub fn release_build() -> Command {
    cargo("build", &["--bins", "--release"])
}

/// Packages as they are verified on Windows, under Wine.
pub fn package_tests() -> Command {
    under_wine(cargo_for_tests("test", &["--test", "packages"]))
}

/// Unit tests of all crates, and those of packages, under Wine.
pub fn unit_tests() -> Command {
    under_wine(cargo_for_tests("test", &["--lib", "--test", "packages"]))
}

fn under_wine(mut command: Command) -> Command {
    wine_environment(&mut command);
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

/// A command that runs a program under Wine.
pub fn wine(program: &Path) -> Command {
    let mut command = Command::new(LOADER);
    wine_environment(&mut command);
    command.arg(program).stdin(Stdio::null());
    command
}

fn wine_environment(command: &mut Command) {
    LazyLock::force(&KEEPER);
    command.env("WINEPREFIX", &*PREFIX).env("WINELOADER", LOADER).env("WINEDEBUG", "-all");
}

/// As programs of Windows know an absolute path of this system.
pub fn path(path: &Path) -> OsString {
    format!("Z:{}", path.display()).replace('/', "\\").into()
}

/// Wine's own drive C:, made once and kept.
static PREFIX: LazyLock<PathBuf> = LazyLock::new(|| {
    let prefix = target().join("wine-prefix");
    let library = prefix.join("drive_c/windows/system32/bcryptprimitives.dll");
    if !library.exists() {
        std::fs::create_dir_all(&prefix).expect("a writable folder");
        let mut boot = Command::new(LOADER);
        boot.args(["wineboot", "--init"]).env("WINEPREFIX", &prefix).env("WINELOADER", LOADER).env("WINEDEBUG", "-all");
        boot.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(boot.status().is_ok_and(|status| status.success()), "{boot:?}");
        // Wine 8 lacks what Rust's standard library asks for random numbers. Never shipped.
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bcryptprimitives.c");
        let mut compiler = Command::new("/usr/bin/x86_64-w64-mingw32-gcc");
        compiler.arg("-shared").arg("-o").arg(&library).arg(source).arg("-ladvapi32");
        run(&mut compiler).good();
    }
    prefix
});

/// A program that ends with this one. Wine's server and services are started by the first program, and hold on to its pipes
/// for as long as anything runs. They are up, with pipes that nobody waits for, when this one has begun to speak.
static KEEPER: LazyLock<Child> = LazyLock::new(|| {
    let mut keeper = Command::new(LOADER);
    keeper.arg("cmd.exe").env("WINEPREFIX", &*PREFIX).env("WINELOADER", LOADER).env("WINEDEBUG", "-all");
    keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = keeper.spawn().unwrap_or_else(|error| panic!("{keeper:?}: {error}"));
    let banner = child.stdout.as_mut().expect("piped above").read_exact(&mut [0]);
    banner.unwrap_or_else(|error| panic!("{keeper:?}: {error}"));
    child
});
