//! `cargo windows`: every program built for Windows, and tried under Wine. It installs with apt what is missing, or says
//! exactly what.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;
use comfy_table::{Table, presets};
use end_to_end::needs::install;
use end_to_end::programs::cargo;
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

/// Its name, and what makes its command, which may need what an earlier one has built.
type Step = (&'static str, fn() -> Command);

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
            cargo(&["test", "--workspace", "--test", "stories", "--", "--ignored", "--nocapture", "windows::"])
        }));
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["step", "seconds"]);
    for (name, step) in steps {
        println!("==> {name}");
        let started = Instant::now();
        let status = step().stdin(Stdio::null()).status().map_err(|error| format!("{name}: {error}"))?;
        if !status.success() {
            return Err(format!("{name} failed"));
        }
        table.add_row([name.to_owned(), format!("{:.0}", started.elapsed().as_secs_f64())]);
    }
    println!("{table}\nall good");
    Ok(())
}
