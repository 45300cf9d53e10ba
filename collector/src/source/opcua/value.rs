//! What a server says of a node, as a sample.

use opcua_types::{DataValue, DateTime, StatusCode, Variant};
use protocol::Timestamp;
use readings::Quality;

use super::connection::named;
use crate::tag::Sample;

/// The sample, and what is wrong with it. Its time is the device's, else the server's, else `now`.
pub fn sample(value: DataValue, now: Timestamp) -> (Sample, Option<String>) {
    let time = [value.source_timestamp, value.server_timestamp].into_iter().flatten().find_map(time).unwrap_or(now);
    let status = value.status.unwrap_or(StatusCode::Good);
    let quality = match (status.is_good(), status.is_uncertain()) {
        (true, _) => Quality::GOOD,
        (_, true) => Quality::UNCERTAIN,
        _ => Quality::BAD,
    };
    let (number, text) = match value.value.map(plain) {
        Some(Plain::Number(number)) => (Some(number), None),
        Some(Plain::Text(text)) => (None, Some(text)),
        None | Some(Plain::Nothing) if quality == Quality::BAD => (None, None),
        None | Some(Plain::Nothing) => return (Sample::bad(time), Some("the node has no value".to_owned())),
        Some(Plain::Other(kind)) => {
            return (Sample::bad(time), Some(format!("its value is {kind}, neither a number nor a text")));
        }
    };
    let error = match quality {
        Quality::BAD => Some(format!("the server says: {}", named(status))),
        _ => status.overflow().then(|| "there were more values than the server keeps for us".to_owned()),
    };
    (Sample { time, value: number, text, quality }, error)
}

fn time(time: DateTime) -> Option<Timestamp> {
    let micros = time.as_chrono().timestamp_micros();
    (!time.is_null()).then(|| Timestamp::from_micros(micros)).flatten()
}

enum Plain {
    Number(f64),
    Text(String),
    Nothing,
    Other(&'static str),
}

fn plain(value: Variant) -> Plain {
    match value {
        Variant::Boolean(on) => Plain::Number(f64::from(u8::from(on))),
        Variant::SByte(number) => Plain::Number(number.into()),
        Variant::Byte(number) => Plain::Number(number.into()),
        Variant::Int16(number) => Plain::Number(number.into()),
        Variant::UInt16(number) => Plain::Number(number.into()),
        Variant::Int32(number) => Plain::Number(number.into()),
        Variant::UInt32(number) => Plain::Number(number.into()),
        Variant::Int64(number) => Plain::Number(number as f64),
        Variant::UInt64(number) => Plain::Number(number as f64),
        Variant::Float(number) => Plain::Number(number.into()),
        Variant::Double(number) => Plain::Number(number),
        Variant::String(text) => Plain::Text(text.as_ref().to_owned()),
        Variant::LocalizedText(text) => Plain::Text(text.text.as_ref().to_owned()),
        Variant::DateTime(time) => Plain::Text(time.to_rfc3339()),
        Variant::Guid(guid) => Plain::Text(guid.to_string()),
        Variant::StatusCode(status) => Plain::Text(named(status)),
        Variant::Variant(inner) => plain(*inner),
        Variant::Empty => Plain::Nothing,
        Variant::Array(_) => Plain::Other("an array"),
        _ => Plain::Other("a structure"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_time_value_and_status_are_kept() {
        let now = Timestamp::parse("2026-02-22T10:00:00Z").unwrap();
        let then = DateTime::parse_from_rfc3339("2026-02-22T09:00:00.123456Z").unwrap();
        let value = |value, status| DataValue {
            value,
            status: Some(status),
            source_timestamp: Some(then),
            ..DataValue::default()
        };
        let (good, error) = sample(value(Some(Variant::UInt64(7)), StatusCode::Good), now);
        assert_eq!((good.value, good.quality, error), (Some(7.0), Quality::GOOD, None));
        assert_eq!(good.time.with_micros(), "2026-02-22T09:00:00.123456Z");
        let (uncertain, _) = sample(value(Some(Variant::from(1.5)), StatusCode::UncertainLastUsableValue), now);
        assert_eq!((uncertain.value, uncertain.quality), (Some(1.5), Quality::UNCERTAIN));
        let (bad, error) = sample(value(None, StatusCode::BadDeviceFailure), now);
        assert_eq!((bad.value, bad.quality), (None, Quality::BAD));
        assert!(error.unwrap().contains("BadDeviceFailure"));
        let (text, _) = sample(value(Some(Variant::from("run")), StatusCode::Good), now);
        assert_eq!(text.text.as_deref(), Some("run"));
        let (array, error) = sample(value(Some(Variant::from(vec![1_i32, 2])), StatusCode::Good), now);
        assert!(array.quality == Quality::BAD && error.unwrap().contains("an array"));
        let (timeless, _) = sample(DataValue { value: Some(Variant::from(true)), ..DataValue::default() }, now);
        assert_eq!((timeless.time, timeless.value, timeless.quality), (now, Some(1.0), Quality::GOOD));
    }
}
