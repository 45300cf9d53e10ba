//! The line of an export: writer and reader of one format.

use std::sync::Arc;

use protocol::Timestamp;
use serde::Deserialize;

use crate::reading::{Quality, Reading};
use crate::store::Row;

/// Appends one line; keys in the order that `session.md` fixes.
pub fn write_line(line: &mut Vec<u8>, row: &Row<'_>) {
    line.extend_from_slice(b"{\"seq\":");
    line.extend_from_slice(itoa::Buffer::new().format(row.seq).as_bytes());
    line.extend_from_slice(b",\"time\":\"");
    line.extend_from_slice(row.time.to_string().as_bytes());
    line.extend_from_slice(b"\",\"tag\":");
    json(line, &row.tag);
    line.extend_from_slice(b",\"value\":");
    json(line, &row.value);
    line.extend_from_slice(b",\"unit\":");
    json(line, &row.unit);
    line.extend_from_slice(b",\"quality\":");
    line.extend_from_slice(itoa::Buffer::new().format(row.quality.0).as_bytes());
    if let Some(text) = row.text {
        line.extend_from_slice(b",\"text\":");
        json(line, &text);
    }
    line.extend_from_slice(b"}\n");
}

fn json(line: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(line, value).expect("strings and numbers serialise, and memory takes them");
}

/// Why a line is no reading.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("not a reading in JSON: {0}")]
    Json(serde_json::Error),
    #[error("the tag is empty")]
    NoTag,
    #[error("time: {0}")]
    Time(protocol::timestamp::NotATime),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(rename = "seq", default)]
    _seq: Option<u64>,
    #[serde(borrow)]
    time: std::borrow::Cow<'a, str>,
    tag: Arc<str>,
    value: Option<f64>,
    #[serde(default)]
    unit: Option<Arc<str>>,
    #[serde(default = "good")]
    quality: u8,
    #[serde(default)]
    text: Option<String>,
}

fn good() -> u8 {
    Quality::GOOD.0
}

/// Reads a line back; its `seq` is of another history and ignored.
///
/// # Errors
/// [`LineError`] for what is no such line.
pub fn parse_line(line: &[u8]) -> Result<Reading, LineError> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(LineError::Json)?;
    let time = Timestamp::parse(&line.time).map_err(LineError::Time)?;
    let Line { tag, value, unit, quality, text, .. } = line;
    if tag.is_empty() {
        return Err(LineError::NoTag);
    }
    Ok(Reading { time, tag, value, unit, quality: Quality(quality), text }.normalised())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row<'static> {
        Row {
            seq: 17,
            time: Timestamp::parse("2026-02-22T09:59:59.250Z").unwrap(),
            tag_id: 1,
            tag: "line1.press.temp_c",
            value: Some(21.5),
            unit: Some("C"),
            quality: Quality::GOOD,
            text: None,
        }
    }

    fn written(row: &Row<'_>) -> String {
        let mut line = Vec::new();
        write_line(&mut line, row);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_line_is_as_the_session_promises() {
        assert_eq!(
            written(&row()),
            "{\"seq\":17,\"time\":\"2026-02-22T09:59:59.250Z\",\"tag\":\"line1.press.temp_c\",\"value\":21.5,\"unit\":\"C\",\"quality\":192}\n"
        );
        let text = Row { value: None, unit: None, text: Some("door \"A\" 🚪\u{1}"), quality: Quality::BAD, ..row() };
        assert!(
            written(&text)
                .ends_with(",\"value\":null,\"unit\":null,\"quality\":0,\"text\":\"door \\\"A\\\" 🚪\\u0001\"}\n")
        );
    }

    #[test]
    fn whatever_the_value_the_line_reads_back_as_it_was() {
        for value in [0.0, -1.5, 1e308, 5e-324, f64::MAX, 0.1 + 0.2, 1e21, 123_456_789.0] {
            let line = written(&Row { value: Some(value), ..row() });
            let read = parse_line(line.as_bytes()).unwrap();
            assert_eq!(read.value.unwrap().to_bits(), value.to_bits(), "{line}");
        }
    }

    #[test]
    fn what_is_no_reading_is_refused() {
        for line in [
            "",
            "{}",
            "[1]",
            "{\"time\":\"now\",\"tag\":\"a\",\"value\":1}",
            "{\"time\":\"2026-02-22T09:59:59Z\",\"tag\":\"\",\"value\":1}",
            "{\"time\":\"2026-02-22T09:59:59Z\",\"tag\":\"a\",\"value\":1,\"x\":1}",
        ] {
            assert!(parse_line(line.as_bytes()).is_err(), "{line}");
        }
    }
}
