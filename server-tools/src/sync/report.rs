//! What people and scripts see of a pull.

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use protocol::Failure;
use protocol::export::{Gap, Whole};
use serde_json::json;

use super::Plant;
use super::archive::{Export, Pulled};
use super::delivery::Delivered;

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

    /// From readings to a package's bytes.
    pub fn begin_delivery(&self, bytes: u64) {
        let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} of the update {eta}");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.set_length(bytes);
        self.bar.set_position(0);
    }

    /// For a thread that sends.
    pub fn clone_bar(&self) -> ProgressBar {
        self.bar.clone()
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
pub fn show(
    plant: &Plant,
    pulled: Option<&Pulled>,
    delivered: Option<&Delivered>,
    failure: Option<&Failure>,
    show: Show,
) {
    match show {
        Show::Nothing => {}
        Show::Table => {
            if let Some(pulled) = pulled {
                println!("{}", table(plant, pulled));
                for Gap { from, to, readings, reason } in &pulled.record.export.gaps {
                    let readings = HumanCount(*readings);
                    println!("gap: {readings} readings between {from} and {to} are not to be had ({reason})");
                }
            }
            if let Some(Delivered { version, status }) = delivered {
                println!("update {version}: {status}; it waits for the operator's approval");
            }
        }
        Show::Json => {
            let mut value = pulled.map_or_else(
                || json!({ "client_id": plant.client_id }),
                |pulled| serde_json::to_value(pulled).expect("records serialise"),
            );
            value["host"] = json!(plant.host);
            value["status"] = json!(if failure.is_none() { "ok" } else { "failed" });
            value["update"] = json!(delivered);
            if let Some(failure) = failure {
                value["error"] = json!(failure.message);
                value["exit_code"] = json!(failure.exit.code());
            }
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
