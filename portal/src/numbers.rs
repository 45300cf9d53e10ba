//! Numbers and spans of time as the chosen language writes them.

use std::time::Duration;

use crate::language::{Words, fill};

/// What is younger is not told apart: ages that count to two and start again are only restless.
const FRESH: Duration = Duration::from_secs(5);

impl Words {
    /// With at most so many decimals, and thousands apart.
    pub fn number(&self, number: f64, decimals: usize) -> String {
        let text = format!("{number:.decimals$}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("\u{2212}", digits));
        let mut grouped = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                grouped.push_str(self.thousands_mark);
            }
            grouped.push(digit);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() && digits == "0" {
            return "0".to_owned();
        }
        let mark = if fraction.is_empty() { "" } else { self.decimal_mark };
        format!("{sign}{grouped}{mark}{fraction}")
    }

    /// A measured value: all of a large number, the first digits of a small one, and no digits that only come from
    /// binary fractions.
    pub fn measured(&self, value: f64) -> String {
        match value.abs() {
            0.0 => self.number(value, 0),
            size if !(1e-6..1e15).contains(&size) => format!("{value:.3e}").replace('.', self.decimal_mark),
            size if size < 1.0 => self.number(value, 6),
            size if size < 1e3 => self.number(value, 3),
            _ => self.number(value, 2),
        }
    }

    /// In the one unit that says enough.
    pub fn span(&self, span: Duration) -> String {
        let seconds = span.as_secs();
        let (unit, count) = match seconds {
            0..120 => (self.seconds, seconds),
            120..7_200 => (self.minutes, seconds / 60),
            7_200..360_000 => (self.hours, seconds / 3_600),
            _ => (self.days, seconds / 86_400),
        };
        fill(unit, &self.number(count as f64, 0))
    }

    pub fn hours_of(&self, seconds: f64) -> String {
        match seconds {
            ..7_200.0 => self.span(Duration::from_secs(seconds.max(0.0) as u64)),
            _ => fill(self.hours, &self.number((seconds / 3_600.0).floor(), 0)),
        }
    }

    pub fn size_of(&self, bytes: u64) -> String {
        match bytes as f64 {
            kilo @ ..1e6 => fill(self.kilobytes, &self.number((kilo / 1e3).max(1.0), 0)),
            mega => fill(self.megabytes, &self.number(mega / 1e6, 1)),
        }
    }

    /// Calm for what is fresh: the last seconds are one word.
    pub fn ago(&self, span: Duration) -> String {
        if span < FRESH { self.just_now.to_owned() } else { fill(self.ago, &self.span(span)) }
    }

    /// As [`Words::ago`], for a column that says what it is.
    pub fn age(&self, span: Duration) -> String {
        if span < FRESH { format!("<\u{a0}{}", self.span(FRESH)) } else { self.span(span) }
    }
}

#[cfg(test)]
mod tests {
    use config::Language;

    use crate::language::words;

    use super::*;

    #[test]
    fn numbers_follow_the_language() {
        let (english, french) = (words(Language::English), words(Language::French));
        assert_eq!(english.number(12_345.678, 1), "12,345.7");
        assert_eq!(french.number(-12_345.678, 1), "\u{2212}12\u{202f}345,7");
        assert_eq!(english.number(-0.04, 1), "0");
        assert_eq!(english.measured(0.1 + 0.2), "0.3");
        assert_eq!(english.measured(123.0), "123");
        assert_eq!(french.measured(2.5e-9), "2,500e-9");
        assert_eq!([english.size_of(12), english.size_of(123_456)], ["1\u{a0}kB", "123\u{a0}kB"]);
        assert_eq!(french.size_of(12_345_678), "12,3\u{a0}Mo");
    }

    #[test]
    fn spans_have_one_unit() {
        let english = words(Language::English);
        let span = |seconds| english.span(Duration::from_secs(seconds));
        assert_eq!([span(0), span(119), span(120)], ["0\u{a0}s", "119\u{a0}s", "2\u{a0}min"]);
        assert_eq!([span(7_200), span(400_000)], ["2\u{a0}h", "4\u{a0}days"]);
        assert_eq!(english.hours_of(9_000_000.0), "2,500\u{a0}h");
    }
}
