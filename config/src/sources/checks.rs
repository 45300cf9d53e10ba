//! Mistakes of `sources.toml`, gathered with their lines while the rest is read on.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use crate::mistake::{Mistake, Mistakes};

/// What is read of one file.
pub struct Checks<'a> {
    text: &'a str,
    file: &'a str,
    mistakes: Vec<Mistake>,
    names: HashSet<String>,
}

const LONGEST_NAME: usize = 64;
const LONGEST_TAG_NAME: usize = 200;
const PERIOD_SECONDS: RangeInclusive<f64> = 0.01..=86_400.0;

impl<'a> Checks<'a> {
    pub fn new(text: &'a str, file: &'a str) -> Self {
        Self { text, file, mistakes: Vec::new(), names: HashSet::new() }
    }

    pub fn mistake_at(&self, at: Option<usize>, what: String) -> Mistake {
        let line = at.map(|at| self.text[..at.min(self.text.len())].matches('\n').count() + 1);
        Mistake { file: self.file.to_owned(), line, what }
    }

    pub fn wrong<T>(&mut self, value: &Spanned<T>, what: String) {
        let mistake = self.mistake_at(Some(value.span().start), what);
        self.mistakes.push(mistake);
    }

    pub fn end(self) -> Result<(), Mistakes> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(Mistakes(self.mistakes)) }
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
