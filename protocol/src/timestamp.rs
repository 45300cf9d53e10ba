//! Points in time: microseconds since 1970 in UTC, written as RFC 3339.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Microseconds since 1970-01-01T00:00:00Z. Within the years 0001 to 9999, which RFC 3339 can write and
/// every database can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is no RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time in RFC 3339 form, such as 2026-02-22T10:00:00Z")]
pub struct NotATime;

const FIRST: i64 = -62_135_596_800_000_000; // 0001-01-01T00:00:00Z
const LAST: i64 = 253_402_300_799_999_999; // 9999-12-31T23:59:59.999999Z

impl Timestamp {
    pub const EPOCH: Self = Self(0);

    /// The system's clock, which may jump.
    pub fn now() -> Self {
        let since =
            |earlier: SystemTime, later: SystemTime| later.duration_since(earlier).map(|d| d.as_micros() as i64);
        let now = SystemTime::now();
        let micros =
            since(SystemTime::UNIX_EPOCH, now).unwrap_or_else(|_| -since(now, SystemTime::UNIX_EPOCH).unwrap_or(0));
        Self(micros.clamp(FIRST, LAST))
    }

    /// `None` outside the years 0001 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (FIRST..=LAST).contains(&micros).then_some(Self(micros))
    }

    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Any RFC 3339 time; what is finer than a microsecond is cut off.
    ///
    /// # Errors
    /// [`NotATime`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotATime> {
        // `time` also takes a space between date and time, as the RFC's note allows for display; a protocol does not.
        if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
            return Err(NotATime);
        }
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NotATime)?;
        let micros = parsed.unix_timestamp_nanos().div_euclid(1000);
        i64::try_from(micros).ok().and_then(Self::from_micros).ok_or(NotATime)
    }

    /// Six fraction digits: `2026-02-22T10:10:00.123456Z`.
    pub fn with_micros(self) -> String {
        let (date, micros) = self.parts();
        format!("{date}.{micros:06}Z")
    }

    /// Three fraction digits, for logs.
    pub fn with_millis(self) -> String {
        let (date, micros) = self.parts();
        format!("{date}.{:03}Z", micros / 1000)
    }

    /// The form of file names: `20260222T101000.123456Z`, no character that a file system minds.
    pub fn file_name(self) -> String {
        self.with_micros().replace(['-', ':'], "")
    }

    /// The inverse of [`Timestamp::file_name`].
    pub fn parse_file_name(name: &str) -> Option<Self> {
        let bytes = name.as_bytes();
        if bytes.len() != 23 || !name.is_ascii() {
            return None;
        }
        let text = format!(
            "{}-{}-{}T{}:{}:{}",
            &name[0..4],
            &name[4..6],
            &name[6..8],
            &name[9..11],
            &name[11..13],
            &name[13..23]
        );
        Self::parse(&text).ok().filter(|parsed| parsed.file_name() == name)
    }

    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)).min(LAST))
    }

    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)).max(FIRST))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    fn parts(self) -> (String, i64) {
        let whole =
            OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1_000_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let date = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            whole.year(),
            u8::from(whole.month()),
            whole.day(),
            whole.hour(),
            whole.minute(),
            whole.second()
        );
        (date, self.0.rem_euclid(1_000_000))
    }
}

/// Three fraction digits where these say all, else six.
impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&if self.0 % 1000 == 0 { self.with_millis() } else { self.with_micros() })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_three_or_six_digits_and_read_back() {
        for (text, written) in [
            ("2026-02-22T09:59:59.250Z", "2026-02-22T09:59:59.250Z"),
            ("2026-02-22T09:59:59Z", "2026-02-22T09:59:59.000Z"),
            ("2026-02-22T09:59:59.250001Z", "2026-02-22T09:59:59.250001Z"),
            ("2026-02-22T11:59:59.25+02:00", "2026-02-22T09:59:59.250Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-02-22",
            "2026-02-22 10:00:00Z",
            "2026-02-30T10:00:00Z",
            "2026-02-22T10:00:00",
            "1771754400",
        ] {
            assert_eq!(Timestamp::parse(text), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn a_file_name_is_read_back_and_sorts_like_the_time() {
        let time = Timestamp::parse("2026-02-22T10:10:00.123456Z").unwrap();
        assert_eq!(time.file_name(), "20260222T101000.123456Z");
        assert_eq!(Timestamp::parse_file_name("20260222T101000.123456Z"), Some(time));
        for name in
            ["20260222T101000Z", "../../../../etc/passwd.", "20260222X101000.123456Z", "20261322T101000.123456Z"]
        {
            assert_eq!(Timestamp::parse_file_name(name), None);
        }
    }
}
