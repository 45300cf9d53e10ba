//! `cargo verify`: everything that continuous integration checks, in one command. It installs with apt what the tests need
//! and is missing, or says exactly what.

use std::process::{Command, ExitCode};

use clap::Parser;
use end_to_end::needs::{Need, install};
use end_to_end::programs::cargo;
use end_to_end::steps::{self, Step};
use end_to_end::windows;

/// Checks everything that continuous integration checks.
#[derive(Parser)]
#[command(name = "cargo verify", bin_name = "cargo verify")]
struct Arguments {
    /// Leave out the build for Windows
    #[arg(long)]
    no_windows: bool,
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
    let mut needs = TEST_NEEDS.to_vec();
    if !arguments.no_windows {
        needs.extend(windows::BUILD_NEEDS);
        needs.extend(windows::RUN_NEEDS);
    }
    install(&needs)?;
    let mut steps: Vec<Step> = vec![
        ("format", || cargo(&["fmt", "--all", "--check"])),
        ("clippy", || cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("build", || cargo(&["build", "--quiet", "--workspace", "--bins"])),
        ("tests", tests),
        // Small, and unoptimised: shows that it still runs, not how fast anything is.
        ("benchmarks", benchmarks),
        ("demo on SQLite", || cargo(&["demo", "--once"])),
        ("demo on PostgreSQL", || cargo(&["demo", "--once", "--postgres"])),
        ("demo of a bad update", || cargo(&["demo", "--once", "--bad-update"])),
        ("the same on PostgreSQL", || cargo(&["demo", "--once", "--bad-update", "--postgres"])),
    ];
    if !arguments.no_windows {
        steps.push(("build for Windows", windows::build));
        steps.push(("unit tests on Windows", windows::unit_tests));
    }
    steps::run(steps)
}

fn tests() -> Command {
    let mut command = cargo(&["test", "--workspace"]);
    // Stories wait half of their time, for what they have begun.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    command.env("RUST_TEST_THREADS", (cores * 3 / 2).max(2).to_string());
    command
}

fn benchmarks() -> Command {
    let names = ["updating", "exporting", "collecting", "browsing", "reading", "packing", "storing", "trends"];
    let mut arguments = vec!["test", "--workspace"];
    arguments.extend(names.iter().flat_map(|name| ["--bench", *name]));
    arguments.extend(["--", "--quick"]);
    cargo(&arguments)
}
