//! `cargo verify`: everything that continuous integration checks, in one command. It installs with apt what the tests need
//! and is missing, or says exactly what.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;
use comfy_table::{Table, presets};
use end_to_end::programs::{cargo, workspace};

/// Checks everything that continuous integration checks.
#[derive(Parser)]
#[command(name = "cargo verify", bin_name = "cargo verify")]
struct Arguments {
    /// Leave out the build for Windows
    #[arg(long)]
    no_windows: bool,
}

/// A program that has to be there, and the Debian package that brings it.
struct Need {
    file: &'static str,
    package: &'static str,
}

const TEST_NEEDS: [Need; 13] = [
    Need { file: "/usr/bin/psql", package: "postgresql" },
    Need { file: "/usr/bin/openssl", package: "openssl" },
    Need { file: "/usr/bin/python3", package: "python3" },
    Need { file: "/usr/share/doc/python3-venv/copyright", package: "python3-venv" },
    Need { file: "/usr/bin/curl", package: "curl" },
    Need { file: "/usr/sbin/mosquitto", package: "mosquitto" },
    Need { file: "/usr/bin/mosquitto_pub", package: "mosquitto-clients" },
    Need { file: "/usr/bin/chromium", package: "chromium" },
    Need { file: "/usr/bin/chromedriver", package: "chromium-driver" },
    Need { file: "/usr/bin/pigz", package: "pigz" },
    Need { file: "/usr/bin/systemd-analyze", package: "systemd" },
    Need { file: "/usr/bin/strace", package: "strace" },
    Need { file: "/usr/bin/unzip", package: "unzip" },
];
/// Debian's compiler builds its own standard library for Windows; no other one has to be fetched.
const WINDOWS_NEEDS: [Need; 4] = [
    Need { file: "/usr/bin/rustc", package: "rustc-web" },
    Need { file: "/usr/bin/cargo", package: "cargo-web" },
    Need { file: "/usr/lib/rustlib/src/rust/library/std/Cargo.toml", package: "rust-web-src" },
    Need { file: "/usr/bin/x86_64-w64-mingw32-gcc", package: "mingw-w64" },
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match verify(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verify: {error}");
            ExitCode::FAILURE
        }
    }
}

fn verify(arguments: &Arguments) -> Result<(), String> {
    let mut needs: Vec<&Need> = TEST_NEEDS.iter().collect();
    if !arguments.no_windows {
        needs.extend(&WINDOWS_NEEDS);
    }
    install(&needs)?;
    let mut steps: Vec<(&str, Command)> = vec![
        ("format", cargo(&["fmt", "--all", "--check"])),
        ("clippy", cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("build", cargo(&["build", "--quiet", "--workspace", "--bins"])),
        ("tests", cargo(&["test", "--workspace"])),
        // Small, and unoptimised: shows that it still runs, not how fast anything is.
        ("benchmarks", benchmarks()),
        ("demo on SQLite", cargo(&["demo", "--once"])),
        ("demo on PostgreSQL", cargo(&["demo", "--once", "--postgres"])),
        ("demo of a bad update", cargo(&["demo", "--once", "--bad-update"])),
        ("the same on PostgreSQL", cargo(&["demo", "--once", "--bad-update", "--postgres"])),
    ];
    if !arguments.no_windows {
        steps.push(("build for Windows", windows_build()));
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["check", "seconds"]);
    for (name, mut command) in steps {
        println!("==> {name}");
        let started = Instant::now();
        let status = command.stdin(Stdio::null()).status().map_err(|error| format!("{name}: {error}"))?;
        if !status.success() {
            return Err(format!("{name} failed"));
        }
        table.add_row([name.to_owned(), format!("{:.0}", started.elapsed().as_secs_f64())]);
    }
    println!("{table}\nall good");
    Ok(())
}

fn benchmarks() -> Command {
    let names = ["updating", "exporting", "collecting", "browsing", "reading", "packing", "storing", "trends"];
    let mut arguments = vec!["test", "--workspace"];
    arguments.extend(names.iter().flat_map(|name| ["--bench", *name]));
    arguments.extend(["--", "--quick"]);
    cargo(&arguments)
}

/// Everything that has to run on Windows one day is compiled for it from the first day on.
fn windows_build() -> Command {
    let mut command = Command::new("/usr/bin/cargo");
    command.args(["build", "--quiet", "-Zbuild-std=std,panic_unwind", "--target", "x86_64-pc-windows-gnu"]);
    // Nothing of it runs here, so nothing is optimised.
    command.args(["--config", "profile.dev.package.\"*\".opt-level=0"]);
    // Packages for Debian are made on Debian.
    for other in ["end-to-end", "private-postgres", "packaging"] {
        command.args(["--exclude", other]);
    }
    command.args(["--workspace", "--bins", "--target-dir"]);
    command.arg(workspace().join("target/windows")).current_dir(workspace());
    // Debian's own pair of compiler and source; the caller's toolchain has no source to build the library from.
    command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1").env("CARGO", "/usr/bin/cargo");
    command.env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTFLAGS");
    command
}

fn install(needs: &[&Need]) -> Result<(), String> {
    let missing: Vec<&str> =
        needs.iter().filter(|need| !Path::new(need.file).exists()).map(|need| need.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let by_hand =
        format!("these Debian packages are missing: {packages}; install them with: apt-get install {packages}");
    if !rustix::process::geteuid().is_root() {
        return Err(by_hand);
    }
    println!("==> installing {packages}");
    for arguments in [vec!["update", "-q"], [vec!["install", "-q", "-y", "--no-install-recommends"], missing].concat()]
    {
        let mut apt = Command::new("apt-get");
        apt.args(&arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
        if !apt.status().is_ok_and(|status| status.success()) {
            return Err(format!("apt-get {} failed; {by_hand}", arguments[0]));
        }
    }
    Ok(())
}
