//! `collector --once`: one gather as a table. It is how an engineer tests `sources.toml`.

use comfy_table::{Table, presets};
use config::{InstallRoot, Settings, Sources};
use protocol::{Failure, Timestamp};
use readings::Quality;

use crate::source::{Shown, gather_all};

/// Gathers every source once and prints what came; nothing is stored.
///
/// # Errors
/// Bad configuration; exit code 69 if nothing at all could be read.
pub async fn gather_once(root: &InstallRoot) -> Result<(), Failure> {
    let settings = Settings::read(root)?;
    daemon::start_logging(&settings);
    let sources = Sources::read(&root.sources_file())?;
    if sources.0.is_empty() {
        return Err(Failure::configuration(format!("{} names no source; add one", root.sources_file().display())));
    }
    let gathered = gather_all(&sources, root).await;
    println!("{}", table(&gathered));
    match gathered.iter().all(|shown| shown.reading.quality.is_bad()) {
        true => Err(Failure::unreachable("nothing could be read")),
        false => Ok(()),
    }
}

fn table(gathered: &[Shown]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["tag", "value", "unit", "quality", "age", "error"]);
    let now = Timestamp::now();
    for Shown { reading, error } in gathered {
        let value = match (&reading.text, reading.value) {
            (Some(text), _) => text.clone(),
            (None, Some(value)) => value.to_string(),
            (None, None) => "–".to_owned(),
        };
        let quality = match reading.quality {
            Quality::GOOD => "good".to_owned(),
            Quality::UNCERTAIN => "uncertain".to_owned(),
            Quality::BAD => "bad".to_owned(),
            Quality(other) => other.to_string(),
        };
        let error = error.as_deref().unwrap_or("");
        let age = format!("{:.1} s", now.since(reading.time).as_secs_f64());
        table.add_row([&reading.tag, value.as_str(), reading.unit.as_deref().unwrap_or(""), &quality, &age, error]);
    }
    table
}
