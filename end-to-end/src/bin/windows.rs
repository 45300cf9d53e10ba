//! `cargo windows`: every program built for Windows, and tried under Wine. It installs with apt what is missing, or says
//! exactly what.

use std::process::{ExitCode, Stdio};
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
    let mut steps = vec![("build", windows::build())];
    if !arguments.build {
        steps.push(("unit tests", windows::unit_tests()));
        let stories = ["test", "--workspace", "--test", "stories", "--", "--ignored", "--nocapture", "windows::"];
        steps.push(("stories", cargo(&stories)));
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["step", "seconds"]);
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
