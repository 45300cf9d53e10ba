//! What people and scripts see of a pull.

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use protocol::Failure;
use protocol::export::Whole;
use serde_json::json;

use super::Plant;
use super::archive::{Export, Pulled};

/// How much a person wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Table,
    Json,
    Nothing,
}

/// A bar on standard error, where somebody looks at it.
pub struct Progress {
    bar: ProgressBar,
    show: Show,
}

impl Progress {
    pub fn new(show: Show) -> Self {
        let bar = if show == Show::Table { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} readings {per_sec} {eta} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, show }
    }

    pub fn begin(&self, export: &Export, received: u64) {
        self.bar.set_length(export.record_count);
        self.bar.set_position(received);
    }

    pub fn advance(&self, whole: &Whole) {
        self.bar.set_position(whole.lines);
        self.bar.set_message(HumanBytes(whole.bytes).to_string());
    }

    /// Something to know that is no error.
    pub fn note(&self, text: &str) {
        if self.show != Show::Nothing {
            self.bar.suspend(|| eprintln!("sync_client: {text}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The end of a pull, good or bad. A failure's line on standard error is not this function's.
pub fn show(plant: &Plant, outcome: &Result<Pulled, Failure>, show: Show) {
    match (show, outcome) {
        (Show::Nothing, _) | (Show::Table, Err(_)) => {}
        (Show::Table, Ok(pulled)) => println!("{}", table(plant, pulled)),
        (Show::Json, Ok(pulled)) => {
            let mut value = serde_json::to_value(pulled).expect("records serialise");
            value["status"] = json!("ok");
            value["host"] = json!(plant.host);
            println!("{value}");
        }
        (Show::Json, Err(failure)) => {
            let value = json!({
                "status": "failed",
                "client_id": plant.client_id,
                "host": plant.host,
                "error": failure.message,
                "exit_code": failure.exit.code(),
            });
            println!("{value}");
        }
    }
}

fn table(plant: &Plant, pulled: &Pulled) -> Table {
    let record = &pulled.record;
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "plant",
        "readings",
        "bytes",
        "period end",
        "archive",
    ]);
    let archive = pulled.archive.as_ref().map_or_else(|| "nothing new".to_owned(), |path| path.display().to_string());
    table.add_row([
        plant.client_id.clone(),
        HumanCount(record.export.record_count).to_string(),
        HumanBytes(record.bytes).to_string(),
        record.export.period_end.with_micros(),
        archive,
    ]);
    for column in [1, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
