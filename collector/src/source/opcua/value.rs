//! What a server says of a node, as a sample.

use opcua_types::{DataValue, DateTime, StatusCode, Variant};
use protocol::Timestamp;
use readings::Quality;

use super::connection::{Ahead, named};
use crate::tag::Sample;

/// What was last told of a node, by which it is known when the same is told again.
#[derive(Default)]
pub struct Told(Option<Sample>);

impl Told {
    /// The sample, and what is wrong with it. Its time is the device's, else the server's, else `now`. What is told again
    /// without having changed, to one who asks again or has connected again, says that it is still so: then its time is
    /// the server's.
    pub fn sample(&mut self, value: DataValue, now: Timestamp, ahead: Ahead) -> (Sample, Option<String>) {
        let still = value.server_timestamp.and_then(|time| at(time, ahead)).unwrap_or(now);
        let (mut sample, error) = sample(value, now, ahead);
        match &self.0 {
            Some(before) if *before == sample => sample.time = still.max(sample.time),
            _ => self.0 = Some(sample.clone()),
        }
        (sample, error)
    }
}

fn sample(value: DataValue, now: Timestamp, ahead: Ahead) -> (Sample, Option<String>) {
    let by_device = value.source_timestamp.and_then(|time| at(time, Ahead::default()));
    let time = by_device.or(value.server_timestamp.and_then(|time| at(time, ahead))).unwrap_or(now);
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

/// As the server has said it; `None` for its "no time", which is the beginning of its calendar, and may have been moved.
fn at(time: DateTime, Ahead(ahead): Ahead) -> Option<Timestamp> {
    const YEAR: i64 = 365 * 86_400 * 1_000_000;
    let none = DateTime::null().as_chrono().timestamp_micros() + YEAR;
    let micros = time.as_chrono().timestamp_micros().checked_add(ahead)?;
    Timestamp::from_micros(micros).filter(|_| micros > none)
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
        let (good, error) = sample(value(Some(Variant::UInt64(7)), StatusCode::Good), now, Ahead(0));
        assert_eq!((good.value, good.quality, error), (Some(7.0), Quality::GOOD, None));
        assert_eq!(good.time.with_micros(), "2026-02-22T09:00:00.123456Z");
        let (uncertain, _) =
            sample(value(Some(Variant::from(1.5)), StatusCode::UncertainLastUsableValue), now, Ahead(0));
        assert_eq!((uncertain.value, uncertain.quality), (Some(1.5), Quality::UNCERTAIN));
        let (bad, error) = sample(value(None, StatusCode::BadDeviceFailure), now, Ahead(0));
        assert_eq!((bad.value, bad.quality), (None, Quality::BAD));
        assert!(error.unwrap().contains("BadDeviceFailure"));
        let (text, _) = sample(value(Some(Variant::from("run")), StatusCode::Good), now, Ahead(0));
        assert_eq!(text.text.as_deref(), Some("run"));
        let (array, error) = sample(value(Some(Variant::from(vec![1_i32, 2])), StatusCode::Good), now, Ahead(0));
        assert!(array.quality == Quality::BAD && error.unwrap().contains("an array"));
        let (timeless, _) =
            sample(DataValue { value: Some(Variant::from(true)), ..DataValue::default() }, now, Ahead(0));
        assert_eq!((timeless.time, timeless.value, timeless.quality), (now, Some(1.0), Quality::GOOD));
    }

    #[test]
    fn a_servers_clock_is_its_own() {
        let now = Timestamp::parse("2026-02-22T10:00:00Z").unwrap();
        let hour = 3_600_000_000;
        let time = |text| Some(DateTime::parse_from_rfc3339(text).unwrap());
        // The library has taken an hour off the server's own time. No time at all is one in 1601.
        let value = |source_timestamp| DataValue {
            value: Some(Variant::from(1.0)),
            source_timestamp,
            server_timestamp: time("2026-02-22T09:59:59.000001Z"),
            ..DataValue::default()
        };
        let (kept, _) = sample(value(time("2026-02-22T09:30:00.5Z")), now, Ahead(hour));
        assert_eq!(kept.time.with_micros(), "2026-02-22T09:30:00.500000Z");
        let (timeless, _) = sample(value(Some(DateTime::null())), now, Ahead(hour));
        assert_eq!(timeless.time.with_micros(), "2026-02-22T10:59:59.000001Z");
    }

    #[test]
    fn what_is_told_again_says_that_it_is_still_so() {
        let now = Timestamp::parse("2026-02-22T10:00:00Z").unwrap();
        let mut told = Told::default();
        let mut tell = |number: f64, source: &str, server: &str| {
            let time = |text| Some(DateTime::parse_from_rfc3339(text).unwrap());
            let value = DataValue {
                value: Some(Variant::from(number)),
                source_timestamp: time(source),
                server_timestamp: time(server),
                ..DataValue::default()
            };
            told.sample(value, now, Ahead(0)).0.time.with_millis()
        };
        assert_eq!(tell(1.0, "2026-02-22T08:00:00Z", "2026-02-22T09:00:00Z"), "2026-02-22T08:00:00.000Z");
        assert_eq!(tell(1.0, "2026-02-22T08:00:00Z", "2026-02-22T09:00:01Z"), "2026-02-22T09:00:01.000Z");
        assert_eq!(tell(1.0, "2026-02-22T08:00:00Z", "2026-02-22T09:00:02Z"), "2026-02-22T09:00:02.000Z");
        // The same number anew, and another one of the same time, are news.
        assert_eq!(tell(1.0, "2026-02-22T09:00:02Z", "2026-02-22T09:00:03Z"), "2026-02-22T09:00:02.000Z");
        assert_eq!(tell(2.0, "2026-02-22T09:00:02Z", "2026-02-22T09:00:03Z"), "2026-02-22T09:00:02.000Z");
    }
}
