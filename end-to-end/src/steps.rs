//! Commands one after the other, with a table of how long each took.

use std::process::{Command, Stdio};
use std::time::Instant;

use comfy_table::{Table, presets};

/// Its name, and what makes its command: only when it is its turn, as it may need what an earlier one has built.
pub type Step = (&'static str, fn() -> Command);

/// Runs them until one fails.
///
/// # Errors
/// Which one failed.
pub fn run(steps: Vec<Step>) -> Result<(), String> {
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
