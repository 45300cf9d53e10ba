//! Mistakes of `sources.toml`, gathered with their lines while the rest is read on.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeTable;

use crate::InstallRoot;
use crate::mistake::{Mistake, Mistakes};

/// What is read of one file.
pub struct Checks<'t> {
    text: &'t str,
    file: &'t str,
    /// Where files that it names are looked for; `None`: they are left to those who need them.
    root: Option<&'t InstallRoot>,
    mistakes: Vec<Mistake>,
    /// Lines that are no TOML, by their number.
    unreadable: HashMap<usize, String>,
    names: HashSet<String>,
}

/// The text of a file without the lines that are no TOML. What stands behind them stays where it is.
pub struct Readable {
    text: String,
    /// Number, text and what is wrong.
    left_out: Vec<(usize, String, String)>,
}

impl Readable {
    pub fn of(mut text: String) -> Self {
        let mut left_out: Vec<(usize, String, String)> = Vec::new();
        while left_out.len() < MOST_LEFT_OUT {
            // The first mistake alone is surely one: what follows may be its echo.
            let errors = DeTable::parse_recoverable(&text).1;
            let news = errors.into_iter().find_map(|error| {
                let line = line_of(&text, error.span().map_or(0, |range| range.start));
                let is_new = left_out.iter().all(|(known, ..)| *known != line);
                is_new.then(|| (line, error.message().replace('\n', ", ")))
            });
            let Some((line, what)) = news else { break };
            let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
            let length = text[start..].lines().next().unwrap_or_default().len();
            let written = text[start..start + length].to_owned();
            // The head of a table is understood well enough; without it its keys would be its neighbour's.
            if !written.trim_start().starts_with('[') {
                text.replace_range(start..start + length, &" ".repeat(length));
            }
            left_out.push((line, written, what));
        }
        Self { text, left_out }
    }
}

/// More than these in one file are another file.
const MOST_LEFT_OUT: usize = 100;

fn line_of(text: &str, at: usize) -> usize {
    text[..text.floor_char_boundary(at)].matches('\n').count() + 1
}

const LONGEST_NAME: usize = 64;
const LONGEST_TAG_NAME: usize = 200;

impl<'t> Checks<'t> {
    pub fn new(readable: &'t Readable, file: &'t str, root: Option<&'t InstallRoot>) -> Self {
        let mistake = |(line, _, what): &(usize, String, String)| Mistake {
            file: file.to_owned(),
            line: Some(*line),
            what: format!("this is no TOML: {what}"),
        };
        Self {
            text: &readable.text,
            file,
            root,
            mistakes: readable.left_out.iter().map(mistake).collect(),
            unreadable: readable.left_out.iter().map(|(line, text, _)| (*line, text.clone())).collect(),
            names: HashSet::new(),
        }
    }

    pub fn text(&self) -> &'t str {
        self.text
    }

    /// At a byte of the text. Of a line that is no TOML, that is all that is said.
    pub fn note(&mut self, at: usize, what: String) {
        let line = self.line(at);
        if !self.unreadable.contains_key(&line) {
            self.mistakes.push(Mistake { file: self.file.to_owned(), line: Some(line), what });
        }
    }

    pub fn wrong<T>(&mut self, value: &Spanned<T>, what: String) {
        self.note(value.span().start, what);
    }

    pub fn missing(&mut self, header: usize, key: &str, of: &str) {
        // Of a line that could not be read it is known already.
        let begins = |line: &String| line.trim_start().strip_prefix(key).is_some_and(|rest| !rest.starts_with('_'));
        if !self.unreadable.values().any(begins) {
            self.note(header, format!("{key} is missing; {of} needs it"));
        }
    }

    /// Whether a file that the key names can be read.
    pub fn check_file<T>(
        &mut self,
        key: &str,
        file: Option<&Spanned<PathBuf>>,
        read: impl FnOnce(&std::path::Path) -> Result<T, String>,
    ) {
        if let (Some(file), Some(root)) = (file, self.root)
            && let Err(error) = read(&root.resolve(file.as_ref()))
        {
            self.wrong(file, format!("{key}: {error}"));
        }
    }

    fn line(&self, at: usize) -> usize {
        line_of(self.text, at)
    }

    /// In the order of their lines.
    pub fn mistakes(mut self) -> Mistakes {
        self.mistakes.sort_by_key(|mistake| mistake.line);
        Mistakes(self.mistakes)
    }

    /// A source's name begins every tag of it, so it has to be one word and the only one of its kind.
    pub fn source_name(&mut self, name: Option<Spanned<String>>) -> String {
        let Some(name) = name else { return String::new() };
        let text = name.as_ref();
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(plain) {
            let what = format!("name: `{text}` must be 1 to {LONGEST_NAME} letters, digits, `_`, `-` or `.`");
            self.wrong(&name, what);
        } else if !self.names.insert(text.clone()) {
            self.wrong(&name, format!("name: another source is called `{text}` already"));
        }
        name.into_inner()
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
}
