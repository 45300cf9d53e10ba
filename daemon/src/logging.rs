use std::fmt;

use config::{LogFormat, LogLevel, Settings};
use protocol::Timestamp;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;

/// RFC 3339 in UTC with milliseconds.
struct UtcMillis;

impl FormatTime for UtcMillis {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&Timestamp::now().with_millis())
    }
}

/// Logs of this process go to standard error from here on. Libraries are heard from warnings up.
pub fn start_logging(settings: &Settings) {
    let level = match settings.log_level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let quiet = level.min(Level::WARN);
    let libraries =
        ["hyper", "hyper_util", "rustls", "tokio_rustls", "tokio_postgres", "postgres", "axum", "tower", "mio"];
    // It logs keys and passwords when asked for much, and errors where nothing is wrong; what fails the collector says.
    let silent = ["opcua_client", "opcua_core", "opcua_crypto", "opcua_types", "hex"];
    let filter = Targets::new()
        .with_default(level)
        .with_targets(libraries.map(|name| (name, LevelFilter::from_level(quiet))))
        .with_targets(silent.map(|name| (name, LevelFilter::OFF)));
    let lines = tracing_subscriber::fmt::layer().with_timer(UtcMillis).with_ansi(false).with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    // A second call, as in tests, changes nothing.
    let _ = match settings.log_format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
}
