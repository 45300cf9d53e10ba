//! `cargo windows`: every program built for Windows, and tried under Wine. It installs with apt what is missing, or says
//! exactly what.

use std::process::ExitCode;

use clap::Parser;
use end_to_end::needs::install;
use end_to_end::programs::cargo;
use end_to_end::steps::{self, Step};
use end_to_end::windows;

/// Builds every program for Windows and tries it under Wine.
#[derive(Parser)]
#[command(name = "cargo windows", bin_name = "cargo windows")]
struct Arguments {
    /// Build only, and run nothing
    #[arg(long)]
    build: bool,
    /// Make what people install: an optimised build, packed as target/windows/plantlink_<version>_windows-x86_64.zip
    #[arg(long, conflicts_with = "build")]
    zip: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match windows(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windows: {error}");
            ExitCode::FAILURE
        }
    }
}

fn windows(arguments: &Arguments) -> Result<(), String> {
    let needs = [&windows::BUILD_NEEDS[..], &windows::RUN_NEEDS];
    install(&needs.concat())?;
    let mut steps: Vec<Step> = Vec::new();
    if arguments.zip {
        steps.push(("optimised build", windows::release_build));
        steps.push(("archive", || cargo(&["run", "--quiet", "--bin", "packaging", "--", "zip"])));
    } else {
        steps.push(("build", windows::build));
    }
    if !arguments.build && !arguments.zip {
        steps.push(("unit tests", windows::unit_tests));
        steps.push(("stories", || {
            cargo(&["test", "--workspace", "--test", "stories", "--", "--ignored", "--nocapture", "windows"])
        }));
    }
    steps::run(steps)
}
