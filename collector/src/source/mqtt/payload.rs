//! What a message's payload means.

use config::{MqttKind, MqttTag};
use protocol::Timestamp;
use readings::Quality;
use serde_json::Value;

use crate::tag::Sample;

/// The sample in a payload; `now` where it says no time of its own.
///
/// # Errors
/// In words, what is wrong with it.
pub fn sample(tag: &MqttTag, payload: &[u8], is_retained: bool, now: Timestamp) -> Result<Sample, String> {
    let Some(path) = &tag.json else {
        let text = std::str::from_utf8(payload).map_err(|_| "the payload is no text".to_owned())?;
        return Ok(aged(of_text(tag.kind, text)?, None, is_retained, now));
    };
    let json: Value = serde_json::from_slice(payload).map_err(|error| format!("the payload is no JSON: {error}"))?;
    let value = json.pointer(path).ok_or_else(|| format!("the payload has no {path}"))?;
    let raw = match value {
        Value::Number(number) => of_number(tag.kind, number.as_f64().unwrap_or(f64::NAN)),
        Value::Bool(on) => of_number(tag.kind, f64::from(u8::from(*on))),
        Value::String(text) => of_text(tag.kind, text)?,
        // A sensor that says that it has nothing.
        Value::Null => Raw { value: None, text: None, quality: Quality::BAD },
        Value::Array(_) | Value::Object(_) => return Err(format!("{path} is no single value")),
    };
    let time = match &tag.json_time {
        None => None,
        Some(path) => Some(json.pointer(path).and_then(time).ok_or_else(|| format!("{path} is no time"))?),
    };
    Ok(aged(raw, time, is_retained, now))
}

struct Raw {
    value: Option<f64>,
    text: Option<String>,
    quality: Quality,
}

/// What a broker has kept says of now only what it says itself.
fn aged(raw: Raw, time: Option<Timestamp>, is_retained: bool, now: Timestamp) -> Sample {
    let Raw { value, text, quality } = raw;
    let is_of_unknown_age = is_retained && time.is_none() && quality == Quality::GOOD;
    let quality = if is_of_unknown_age { Quality::UNCERTAIN } else { quality };
    Sample { time: time.unwrap_or(now), value, text, quality }
}

fn of_number(kind: MqttKind, number: f64) -> Raw {
    let value = match kind {
        MqttKind::Number => number,
        MqttKind::Bool => f64::from(u8::from(number != 0.0)),
        MqttKind::Text => return Raw { value: None, text: Some(number.to_string()), quality: Quality::GOOD },
    };
    Raw { value: Some(value), text: None, quality: Quality::GOOD }
}

fn of_text(kind: MqttKind, text: &str) -> Result<Raw, String> {
    let text = text.trim();
    let shown = || text.chars().take(40).collect::<String>();
    match kind {
        MqttKind::Text => Ok(Raw { value: None, text: Some(text.to_owned()), quality: Quality::GOOD }),
        MqttKind::Number => match text.parse::<f64>() {
            Ok(number) => Ok(of_number(kind, number)),
            Err(_) => Err(format!("`{}` is no number", shown())),
        },
        MqttKind::Bool => match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "on" | "yes" | "open" => Ok(of_number(kind, 1.0)),
            "0" | "false" | "off" | "no" | "closed" => Ok(of_number(kind, 0.0)),
            _ => Err(format!("`{}` is neither on nor off", shown())),
        },
    }
}

/// RFC 3339, or seconds since 1970, or milliseconds: no clock of a plant says a second of the year 5138.
fn time(value: &Value) -> Option<Timestamp> {
    const LEAST_MILLISECONDS: f64 = 1e11;
    match value {
        Value::String(text) => Timestamp::parse(text).ok(),
        Value::Number(number) => {
            let number = number.as_f64()?;
            let seconds = if number.abs() >= LEAST_MILLISECONDS { number / 1000.0 } else { number };
            let micros = seconds * 1e6;
            // Within the years that are kept, so within an i64.
            micros.is_finite().then(|| Timestamp::from_micros(micros.round() as i64)).flatten()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use config::TagSettings;

    use super::*;

    fn tag(kind: MqttKind, json: Option<&str>, json_time: Option<&str>) -> MqttTag {
        let (json, json_time) = (json.map(str::to_owned), json_time.map(str::to_owned));
        MqttTag { topic: "t".to_owned(), settings: TagSettings::default(), kind, json, json_time }
    }

    fn read(tag: &MqttTag, payload: &str) -> Result<(Option<f64>, Option<String>, u8), String> {
        let sample = sample(tag, payload.as_bytes(), false, Timestamp::EPOCH)?;
        Ok((sample.value, sample.text, sample.quality.0))
    }

    #[test]
    fn plain_and_json_payloads_are_read() {
        let plain = |kind| tag(kind, None, None);
        assert_eq!(read(&plain(MqttKind::Number), " 21.5\n"), Ok((Some(21.5), None, 192)));
        assert_eq!(read(&plain(MqttKind::Bool), "ON"), Ok((Some(1.0), None, 192)));
        assert_eq!(read(&plain(MqttKind::Text), "run"), Ok((None, Some("run".to_owned()), 192)));
        assert!(read(&plain(MqttKind::Number), "hot").unwrap_err().contains("`hot` is no number"));
        let json = tag(MqttKind::Number, Some("/oil/0"), Some("/at"));
        assert_eq!(read(&json, r#"{"oil":[3],"at":1}"#), Ok((Some(3.0), None, 192)));
        assert_eq!(read(&json, r#"{"oil":["3.5"],"at":1}"#), Ok((Some(3.5), None, 192)));
        assert_eq!(read(&json, r#"{"oil":[null],"at":1}"#), Ok((None, None, 0)));
        for (payload, what) in [
            ("{", "no JSON"),
            (r#"{"at":1}"#, "has no /oil/0"),
            (r#"{"oil":[{}],"at":1}"#, "no single value"),
            (r#"{"oil":[1]}"#, "/at is no time"),
            (r#"{"oil":[1],"at":1e300}"#, "/at is no time"),
        ] {
            assert!(read(&json, payload).unwrap_err().contains(what), "{payload}");
        }
        let (mut deep, kind) = ("[".repeat(100_000), tag(MqttKind::Number, Some("/a"), None));
        deep.push('1');
        assert!(read(&kind, &deep).is_err());
    }

    #[test]
    fn a_message_says_its_time_and_one_that_was_kept_is_uncertain_without() {
        let json = tag(MqttKind::Number, Some("/v"), Some("/at"));
        for at in ["\"2026-02-22T10:00:00.5Z\"", "1771754400.5", "1771754400500"] {
            let payload = format!("{{\"v\":1,\"at\":{at}}}");
            let sample = sample(&json, payload.as_bytes(), true, Timestamp::EPOCH).unwrap();
            assert_eq!((sample.time.with_millis().as_str(), sample.quality.0), ("2026-02-22T10:00:00.500Z", 192));
        }
        let kept = sample(&tag(MqttKind::Number, None, None), b"1", true, Timestamp::EPOCH).unwrap();
        assert_eq!(kept.quality, Quality::UNCERTAIN);
    }
}
