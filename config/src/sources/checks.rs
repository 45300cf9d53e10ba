//! Mistakes of `sources.toml`, gathered with their lines while the rest is read on.

use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::mistake::{Mistake, Mistakes};

/// What is read of one file.
pub struct Checks<'a> {
    text: &'a str,
    file: &'a str,
    mistakes: Vec<Mistake>,
    names: HashSet<String>,
}

/// More than these in one file are another file.
const MOST_LEFT_OUT: usize = 100;
const LONGEST_NAME: usize = 64;
const LONGEST_TAG_NAME: usize = 200;
const PERIOD_SECONDS: RangeInclusive<f64> = 0.01..=86_400.0;

impl<'a> Checks<'a> {
    pub fn new(text: &'a str, file: &'a str) -> Self {
        Self { text, file, mistakes: Vec::new(), names: HashSet::new() }
    }

    /// The file by its form. A line that has none, or a key that nothing is known of, is noted and left out, and the rest is
    /// read on; `None` where that cannot be done.
    pub fn read<File: DeserializeOwned>(&mut self) -> Option<File> {
        let mut text = self.text.to_owned();
        let mut left_out: Vec<String> = Vec::new();
        for _ in 0..MOST_LEFT_OUT {
            let error = match toml::from_str(&text) {
                Ok(file) => return Some(file),
                Err(error) => error,
            };
            let message = error.message().replace('\n', " ");
            // Of a line that was left out, what it said is missing.
            let follows = |line: &String| {
                let key = line.split('=').next().unwrap_or_default().trim();
                message == format!("missing field `{key}`")
            };
            let at = error.span()?.start.min(text.len());
            if left_out.iter().any(follows) {
                left_out.push(leave_out(&mut text, source_around(self.text, at)?));
                continue;
            }
            self.note(Some(at), message);
            let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let end = error.span()?.end.clamp(start, text.len());
            let end = text[end..].find('\n').map_or(text.len(), |length| end + length);
            let is_key = text[start..end].contains('=') && !text[start..end].trim_start().starts_with('[');
            let range = if is_key { start..end } else { source_around(self.text, at)? };
            left_out.push(leave_out(&mut text, range));
        }
        None
    }

    fn note(&mut self, at: Option<usize>, what: String) {
        let line = at.map(|at| self.text[..at.min(self.text.len())].matches('\n').count() + 1);
        self.mistakes.push(Mistake { file: self.file.to_owned(), line, what });
    }

    pub fn wrong<T>(&mut self, value: &Spanned<T>, what: String) {
        self.note(Some(value.span().start), what);
    }

    /// In the order of their lines.
    pub fn mistakes(mut self) -> Mistakes {
        self.mistakes.sort_by_key(|mistake| mistake.line);
        Mistakes(self.mistakes)
    }

    /// A source's name begins every tag of it, so it has to be one word and the only one of its kind.
    pub fn source_name(&mut self, name: &Spanned<String>) -> String {
        let text = name.as_ref();
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(plain) {
            let what = format!("name: `{text}` must be 1 to {LONGEST_NAME} letters, digits, `_`, `-` or `.`");
            self.wrong(name, what);
        } else if !self.names.insert(text.clone()) {
            self.wrong(name, format!("name: another source is called `{text}` already"));
        }
        text.clone()
    }

    /// `<source>.<tag>`, which no other tag is called.
    pub fn tag_name(&mut self, source: &str, name: &Spanned<String>) -> String {
        let whole = format!("{source}.{}", name.as_ref());
        if name.as_ref().trim().is_empty() || name.as_ref().chars().any(char::is_control) {
            self.wrong(name, "name: a tag needs one, without control characters".to_owned());
        } else if whole.len() > LONGEST_TAG_NAME {
            self.wrong(name, format!("name: `{whole}` is longer than {LONGEST_TAG_NAME} bytes"));
        } else if !self.names.insert(whole.clone()) {
            self.wrong(name, format!("name: another tag is called `{whole}` already"));
        }
        whole
    }

    pub fn period(&mut self, key: &str, seconds: &Spanned<f64>) -> Duration {
        let value = *seconds.as_ref();
        if PERIOD_SECONDS.contains(&value) {
            return Duration::from_secs_f64(value);
        }
        let (least, most) = (PERIOD_SECONDS.start(), PERIOD_SECONDS.end());
        self.wrong(seconds, format!("{key}: {value} is not between {least} and {most}"));
        Duration::from_secs(1)
    }

    /// A whole number of these; where it is another, that is noted.
    pub fn whole<T: TryFrom<i64>>(
        &mut self,
        key: &str,
        value: &Spanned<i64>,
        allowed: RangeInclusive<i64>,
    ) -> Option<T> {
        let number = *value.as_ref();
        if allowed.contains(&number)
            && let Ok(number) = T::try_from(number)
        {
            return Some(number);
        }
        self.wrong(value, format!("{key}: {number} is not between {} and {}", allowed.start(), allowed.end()));
        None
    }
}

/// What stands behind it stays where it is. Returns what it was.
fn leave_out(text: &mut String, range: Range<usize>) -> String {
    let left_out = text[range.clone()].to_owned();
    let blank: String = left_out.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(range, &blank);
    left_out
}

/// From the `[[kind]]` before a place to the next one.
fn source_around(text: &str, at: usize) -> Option<Range<usize>> {
    let mut start = 0;
    let mut begins = Vec::new();
    for line in text.split_inclusive('\n') {
        let name = line.trim().strip_prefix("[[");
        begins.extend(name.filter(|name| !name.contains('.')).map(|_| start));
        start += line.len();
    }
    let begin = begins.iter().rev().find(|begin| **begin <= at)?;
    let end = begins.iter().find(|begin| **begin > at).copied().unwrap_or(text.len());
    Some(*begin..end)
}
