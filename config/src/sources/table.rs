//! A table of `sources.toml`, whose keys are taken out one after the other. One that has another form, is missing or is
//! not known is noted, and the rest is read on: so all mistakes are named at once, in words of this file.

use std::fmt::Write as _;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::checks::Checks;

pub struct Table<'t> {
    /// As it is written: `[[modbus.group]]`.
    kind: &'static str,
    header: Range<usize>,
    entries: DeTable<'t>,
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    /// The whole file.
    pub fn document(checks: &Checks<'t>) -> Self {
        // What is no TOML is noted already.
        let (document, _) = DeTable::parse_recoverable(checks.text());
        let header = document.span();
        Self { kind: "sources.toml", header, entries: document.into_inner(), known: Vec::new() }
    }

    /// Where it begins, for what is said of all of it.
    pub fn header(&self) -> Spanned<()> {
        Spanned::new(self.header.clone(), ())
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Tables that there may be more than one of.
    pub fn tables(&mut self, key: &'static str, kind: &'static str, checks: &mut Checks<'t>) -> Vec<Self> {
        let Some(value) = self.entry(key) else { return Vec::new() };
        let span = value.span();
        let brackets = format!("{key}: write it as {kind} in double brackets, as there may be more than one");
        let values = match value.into_inner() {
            DeValue::Array(values) => values.into_iter().collect(),
            table @ DeValue::Table(_) => {
                checks.note(span.start, brackets.clone());
                vec![Spanned::new(span, table)]
            }
            _ => {
                checks.note(span.start, brackets);
                return Vec::new();
            }
        };
        let mut tables = Vec::new();
        for value in values {
            let header = value.span();
            match value.into_inner() {
                DeValue::Table(entries) => tables.push(Self { kind, header, entries, known: Vec::new() }),
                _ => checks.note(header.start, brackets.clone()),
            }
        }
        tables
    }

    pub fn text(&mut self, key: &'static str, checks: &mut Checks<'t>) -> Option<Spanned<String>> {
        self.value(key, "a text in quotes", checks, |value| match value {
            DeValue::String(text) => Some(text.into_owned()),
            _ => None,
        })
    }

    pub fn required_text(&mut self, key: &'static str, checks: &mut Checks<'t>) -> Option<Spanned<String>> {
        self.require(key, checks);
        self.text(key, checks)
    }

    /// A whole number of these.
    pub fn whole<T: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<i64>,
        checks: &mut Checks<'t>,
    ) -> Option<Spanned<T>> {
        let form = format!("a whole number from {} to {}", allowed.start(), allowed.end());
        self.value(key, &form, checks, |value| {
            let number = whole(&value).filter(|number| allowed.contains(number));
            number.and_then(|number| T::try_from(number).ok())
        })
    }

    pub fn required_whole<T: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<i64>,
        checks: &mut Checks<'t>,
    ) -> Option<Spanned<T>> {
        self.require(key, checks);
        self.whole(key, allowed, checks)
    }

    pub fn number(&mut self, key: &'static str, checks: &mut Checks<'t>) -> Option<Spanned<f64>> {
        self.value(key, "a number", checks, |value| number(&value).filter(|number| number.is_finite()))
    }

    /// Seconds.
    pub fn period(&mut self, key: &'static str, checks: &mut Checks<'t>) -> Option<Duration> {
        const SECONDS: RangeInclusive<f64> = 0.01..=86_400.0;
        let form = format!("seconds from {} to {}", SECONDS.start(), SECONDS.end());
        let seconds =
            self.value(key, &form, checks, |value| number(&value).filter(|seconds| SECONDS.contains(seconds)));
        seconds.map(|seconds| Duration::from_secs_f64(seconds.into_inner()))
    }

    pub fn required_period(&mut self, key: &'static str, checks: &mut Checks<'t>) -> Option<Duration> {
        self.require(key, checks);
        self.period(key, checks)
    }

    pub fn flag(&mut self, key: &'static str, checks: &mut Checks<'t>) -> Option<bool> {
        self.value(key, "true or false", checks, |value| value.as_bool()).map(Spanned::into_inner)
    }

    /// One of a few words.
    pub fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        checks: &mut Checks<'t>,
    ) -> Option<Spanned<T>> {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        self.value(key, &list(&all, "or"), checks, |value| {
            let written = value.as_str()?;
            words.iter().find(|(word, _)| *word == written).map(|(_, meant)| *meant)
        })
    }

    /// A file, relative to the root.
    pub fn file(&mut self, key: &'static str, checks: &mut Checks<'t>) -> Option<Spanned<PathBuf>> {
        let text = self.text(key, checks)?;
        let span = text.span();
        if text.as_ref().trim().is_empty() {
            checks.note(span.start, format!("{key}: name a file, or leave the line out"));
            return None;
        }
        Some(Spanned::new(span, PathBuf::from(text.into_inner())))
    }

    /// A value of a form that nothing else has.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        form: &str,
        checks: &mut Checks<'t>,
        read: impl FnOnce(DeValue<'t>) -> Option<T>,
    ) -> Option<Spanned<T>> {
        let value = self.entry(key)?;
        let span = value.span();
        let written = written(value.get_ref());
        let read = read(value.into_inner());
        if read.is_none() {
            checks.note(span.start, format!("{key}: write {form}, not {written}"));
        }
        read.map(|value| Spanned::new(span, value))
    }

    /// Notes what nobody has asked for.
    pub fn end(self, checks: &mut Checks<'t>) {
        let known: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
        for key in self.entries.keys() {
            let what = format!("`{}` is no key of {}; it has {}", key.get_ref(), self.kind, list(&known, "and"));
            checks.note(key.span().start, what);
        }
    }

    fn require(&self, key: &'static str, checks: &mut Checks<'t>) {
        if !self.has(key) {
            checks.missing(self.header.start, key, self.kind);
        }
    }

    fn entry(&mut self, key: &'static str) -> Option<Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.entries.remove(key)
    }
}

pub fn whole(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

pub fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        // Exact below 2^53, which no scale or limit of a plant is beyond.
        value => whole(value).map(|number| number as f64),
    }
}

/// What a person finds there.
fn written(value: &DeValue<'_>) -> String {
    const LONGEST: usize = 40;
    match value {
        DeValue::String(text) if text.chars().count() <= LONGEST => format!("the text \"{}\"", text.escape_debug()),
        DeValue::String(_) => "a long text".to_owned(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn list(words: &[String], last: &str) -> String {
    let mut list = String::new();
    for (at, word) in words.iter().enumerate() {
        let before = match at {
            0 => "",
            _ if at + 1 == words.len() => &format!(" {last} "),
            _ => ", ",
        };
        let _ = write!(list, "{before}{word}");
    }
    list
}
