//! What people and scripts see of a pull.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use protocol::Failure;
use protocol::export::{Gap, Whole};
use serde_json::json;

use super::archive::{Export, Pulled};
use super::delivery::Delivered;
use super::status::Status;
use super::{Done, Plant};

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
    /// The one that is seen, among many plants.
    shown: ProgressBar,
    /// Before what is noted.
    name: String,
    show: Show,
}

impl Progress {
    pub fn new(show: Show) -> Self {
        let bar = if show == Show::Table { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} readings {per_sec} {eta} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { shown: bar.clone(), bar, name: "sync_client".to_owned(), show }
    }

    /// One plant of many, which have a bar together.
    pub fn one_of_many(show: Show, client_id: &str, together: &ProgressBar) -> Self {
        let name = format!("sync_client: {client_id}");
        Self { bar: ProgressBar::hidden(), shown: together.clone(), name, show }
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
            self.shown.suspend(|| eprintln!("{}: {text}", self.name));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The end of a run, good or bad. A failure's line on standard error is not this function's.
pub fn show(plant: &Plant, done: &Done, failure: Option<&Failure>, show: Show) {
    let Done { pulled, delivered, status } = done;
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
            if let Some(status) = status {
                println!("{}", status_table(&[(plant, Ok(status))]));
            }
        }
        Show::Json => {
            let mut value = pulled.as_ref().map_or_else(
                || json!({ "client_id": plant.client_id }),
                |pulled| serde_json::to_value(pulled).expect("records serialise"),
            );
            value["host"] = json!(plant.host);
            value["status"] = json!(if failure.is_none() { "ok" } else { "failed" });
            value["update"] = json!(delivered);
            if let Some(status) = status {
                value["plant"] = status.raw.clone();
            }
            if let Some(failure) = failure {
                value["error"] = json!(failure.message);
                value["exit_code"] = json!(failure.exit.code());
            }
            println!("{value}");
        }
    }
}

/// What kept a run from its first plant. Its line on standard error is not this function's.
pub fn show_failure(failure: &Failure, show: Show) {
    if show == Show::Json {
        println!("{}", json!({ "status": "failed", "error": failure.message, "exit_code": failure.exit.code() }));
    }
}

/// What came of each plant of a fleet.
pub fn fleet_table(all: &[(&Plant, &Done, Option<&Failure>)], status_only: bool) -> Table {
    if status_only {
        let rows: Vec<_> = all
            .iter()
            .map(|(plant, done, failure)| {
                let status =
                    done.status.as_ref().ok_or_else(|| failure.map(|it| it.message.as_str()).unwrap_or_default());
                (*plant, status)
            })
            .collect();
        return status_table(&rows);
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_header([
        "plant",
        "readings",
        "bytes",
        "period end",
        "outcome",
    ]);
    for (plant, done, failure) in all {
        let pulled = done.pulled.as_ref().map(|pulled| &pulled.record);
        let gaps = pulled.iter().flat_map(|record| &record.export.gaps);
        let lost = gaps.fold(0_u64, |lost, gap| lost.saturating_add(gap.readings));
        let mut outcome = match (failure, done.pulled.as_ref()) {
            (Some(failure), _) => format!("{} ({})", failure.message, failure.exit.code()),
            (None, Some(pulled)) if pulled.archive.is_none() => "nothing new".to_owned(),
            (None, _) => "ok".to_owned(),
        };
        if lost > 0 {
            outcome += &format!("; {} readings are not to be had", HumanCount(lost));
        }
        if let Some(delivered) = &done.delivered {
            outcome += &format!("; update {}: {}", delivered.version, delivered.status);
        }
        table.add_row([
            plant.client_id.clone(),
            pulled.map(|record| HumanCount(record.export.record_count).to_string()).unwrap_or_default(),
            pulled.map(|record| HumanBytes(record.bytes).to_string()).unwrap_or_default(),
            pulled.map(|record| record.export.period_end.with_millis()).unwrap_or_default(),
            outcome,
        ]);
    }
    align_right(&mut table, &[1, 2]);
    table
}

/// How plants are, or why that is not known.
fn status_table(all: &[(&Plant, Result<&Status, &str>)]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_header([
        "plant",
        "version",
        "update",
        "last update",
        "newest reading",
        "in the spool",
        "programs",
    ]);
    for (plant, status) in all {
        let id = plant.client_id.clone();
        match status {
            Ok(status) => table.add_row([
                id,
                status.version().to_owned(),
                status.update(),
                status.last_update(),
                status.newest_reading(),
                HumanCount(status.spool_readings()).to_string(),
                status.programs(),
            ]),
            Err(failure) => table.add_row([id, String::new(), (*failure).to_owned()]),
        };
    }
    align_right(&mut table, &[5]);
    table
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
    align_right(&mut table, &[1, 2]);
    table
}

fn align_right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
