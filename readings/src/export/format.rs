//! The line of [`crate::write_line`], byte for byte, with as little as possible written anew.

use protocol::Timestamp;

use super::tags::{Alike, Tags};
use crate::store::Row;

/// Where the parts of a line are among the lines of a member.
#[derive(Clone, Copy)]
pub struct Line {
    pub start: usize,
    /// Of `,"time":"`.
    pub time: usize,
    /// Behind the time.
    pub tag: usize,
    pub value: usize,
    /// Behind the value.
    pub unit: usize,
    pub end: usize,
}

/// Which line a row became, and whose.
#[derive(Clone, Copy)]
pub struct Written {
    pub line: Line,
    /// The tag's place in [`Tags`].
    pub tag: usize,
    pub alike: Alike,
    pub has_text: bool,
}

/// Writes lines, of which it keeps what is the same from one to the next.
pub struct Formatter {
    tags: Tags,
    time: TimeText,
}

impl Default for Formatter {
    fn default() -> Self {
        Self { tags: Tags::default(), time: TimeText::new() }
    }
}

impl Formatter {
    /// Appends the row's line.
    #[inline]
    pub fn write(&mut self, lines: &mut Vec<u8>, row: &Row<'_>) -> Written {
        let place = self.tags.place(row.tag_id, row.tag, row.unit);
        let tag = self.tags.get(place);
        let start = lines.len();
        lines.extend_from_slice(b"{\"seq\":");
        lines.extend_from_slice(itoa::Buffer::new().format(row.seq).as_bytes());
        let time = lines.len();
        lines.extend_from_slice(self.time.of(row.time));
        let behind_time = lines.len();
        lines.extend_from_slice(&tag.before_value);
        let value = lines.len();
        match row.value.filter(|value| value.is_finite()) {
            // The crate that serde_json uses, so that the digits are the same.
            Some(number) => lines.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes()),
            None => lines.extend_from_slice(b"null"),
        }
        let unit = lines.len();
        lines.extend_from_slice(&tag.before_quality);
        lines.extend_from_slice(itoa::Buffer::new().format(row.quality.0).as_bytes());
        if let Some(text) = row.text {
            lines.extend_from_slice(b",\"text\":");
            serde_json::to_writer(&mut *lines, text).expect("strings serialise, and memory takes them");
        }
        lines.extend_from_slice(b"}\n");
        let line = Line { start, time, tag: behind_time, value, unit, end: lines.len() };
        Written { line, tag: place, alike: tag.alike, has_text: row.text.is_some() }
    }
}

/// The last time's text, of which usually no more than the fraction has to be written anew.
struct TimeText {
    text: [u8; Self::LONGEST],
    /// The day whose date is in the text, and the second of it.
    day: i64,
    second: u32,
}

impl TimeText {
    const FORM: &[u8; Self::LONGEST] = b",\"time\":\"YYYY-MM-DDThh:mm:ss.ffffffZ\"";
    const LONGEST: usize = 37;
    const DATE: usize = 9;
    const HOUR: usize = 20;
    const MINUTE: usize = 23;
    const SECOND: usize = 26;
    const FRACTION: usize = 29;

    fn new() -> Self {
        // No time has such a day.
        Self { text: *Self::FORM, day: i64::MAX, second: u32::MAX }
    }

    /// From the key to the closing quotation mark.
    #[inline]
    fn of(&mut self, time: Timestamp) -> &[u8] {
        const SECONDS_OF_DAY: i64 = 86_400;
        let (seconds, micros) = (time.as_micros().div_euclid(1_000_000), time.as_micros().rem_euclid(1_000_000) as u32);
        let (day, second) = (seconds.div_euclid(SECONDS_OF_DAY), seconds.rem_euclid(SECONDS_OF_DAY) as u32);
        if day != self.day {
            self.text[Self::DATE..Self::DATE + 10].copy_from_slice(&time.to_string().as_bytes()[..10]);
            self.day = day;
        }
        if second != self.second {
            for (at, number) in
                [(Self::HOUR, second / 3600), (Self::MINUTE, second / 60 % 60), (Self::SECOND, second % 60)]
            {
                self.digits::<2>(at, number);
            }
            self.second = second;
        }
        // As `Timestamp` writes itself: three digits where these say all, else six.
        let length = if micros % 1000 == 0 {
            self.digits::<3>(Self::FRACTION, micros / 1000);
            Self::FRACTION + 3
        } else {
            self.digits::<6>(Self::FRACTION, micros);
            Self::FRACTION + 6
        };
        self.text[length..length + 2].copy_from_slice(b"Z\"");
        &self.text[..length + 2]
    }

    #[inline]
    fn digits<const N: usize>(&mut self, at: usize, mut number: u32) {
        for digit in self.text[at..at + N].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
}
