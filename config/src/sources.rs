use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::mistake::{self, Mistake, Mistakes};

/// `config/sources.toml`: what is read, and how often.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    pub simulators: Vec<SimulatorSource>,
}

/// A line of machines that exists in memory only.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorSource {
    pub name: String,
    pub tags: usize,
    pub period: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    simulator: Vec<Spanned<Simulator>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Simulator {
    name: Spanned<String>,
    tags: Spanned<i64>,
    #[serde(default = "one_second")]
    period_seconds: Spanned<f64>,
}

fn one_second() -> Spanned<f64> {
    Spanned::new(0..0, 1.0)
}

const LONGEST_NAME: usize = 64;
const MOST_TAGS: i64 = 100_000;
const SHORTEST_PERIOD_SECONDS: f64 = 0.01;
const LONGEST_PERIOD_SECONDS: f64 = 86_400.0;

impl Sources {
    /// # Errors
    /// All [`Mistakes`] at once, but for TOML that cannot be read on from.
    pub fn read(path: &Path) -> Result<Self, Mistakes> {
        Self::parse(&mistake::read(path)?, &path.display().to_string())
    }

    fn parse(text: &str, file: &str) -> Result<Self, Mistakes> {
        let line_of = |at: usize| Some(text[..at.min(text.len())].matches('\n').count() + 1);
        let parsed: File = toml::from_str(text).map_err(|error| Mistake {
            file: file.to_owned(),
            line: error.span().and_then(|span| line_of(span.start)),
            what: error.message().replace('\n', " "),
        })?;
        let mut mistakes = Vec::new();
        let mut mistake =
            |at: usize, what: String| mistakes.push(Mistake { file: file.to_owned(), line: line_of(at), what });
        let mut names = HashSet::new();
        let mut simulators = Vec::new();
        for source in parsed.simulator {
            let Simulator { name, tags, period_seconds } = source.into_inner();
            check_name(name.as_ref(), &mut names).unwrap_or_else(|what| mistake(name.span().start, what));
            if !(1..=MOST_TAGS).contains(tags.as_ref()) {
                mistake(tags.span().start, format!("tags: {} is not between 1 and {MOST_TAGS}", tags.as_ref()));
            }
            if !(SHORTEST_PERIOD_SECONDS..=LONGEST_PERIOD_SECONDS).contains(period_seconds.as_ref()) {
                let what = format!(
                    "period_seconds: {} is not between {SHORTEST_PERIOD_SECONDS} and {LONGEST_PERIOD_SECONDS}",
                    period_seconds.as_ref()
                );
                mistake(period_seconds.span().start, what);
                continue;
            }
            simulators.push(SimulatorSource {
                tags: usize::try_from(*tags.as_ref()).unwrap_or(0),
                period: Duration::from_secs_f64(*period_seconds.as_ref()),
                name: name.into_inner(),
            });
        }
        if mistakes.is_empty() { Ok(Self { simulators }) } else { Err(Mistakes(mistakes)) }
    }

    pub fn is_empty(&self) -> bool {
        self.simulators.is_empty()
    }
}

/// A source's name begins every tag of it, so it has to be one word and the only one of its kind.
fn check_name(name: &str, names: &mut HashSet<String>) -> Result<(), String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        return Err(format!("name: `{name}` must be 1 to {LONGEST_NAME} letters, digits, `_`, `-` or `.`"));
    }
    if !names.insert(name.to_owned()) {
        return Err(format!("name: another source is called `{name}` already"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_line_is_read() {
        let sources = Sources::parse("[[simulator]]\nname = \"line1\"\ntags = 50\n", "sources.toml").unwrap();
        assert_eq!(
            sources.simulators,
            [SimulatorSource { name: "line1".into(), tags: 50, period: Duration::from_secs(1) }]
        );
        assert!(Sources::parse(crate::DEFAULT_SOURCES, "sources.toml").unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        let text = "[[simulator]]\nname = \"a b\"\ntags = 0\n\n[[simulator]]\nname = \"x\"\ntags = 1\nperiod_seconds = 0.0\n\n[[simulator]]\nname = \"x\"\ntags = 1\n";
        let mistakes = Sources::parse(text, "sources.toml").unwrap_err();
        let lines: Vec<_> = mistakes.0.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [Some(2), Some(3), Some(8), Some(11)]);
        for (text, line) in [
            ("[[simulator]\n", 1),
            ("\n[[simulator]]\nname = \"x\"\ntags = 1\ncolour = 1\n", 5),
            ("\n\n[[modbus]]\n", 3),
        ] {
            assert_eq!(Sources::parse(text, "sources.toml").unwrap_err().0[0].line, Some(line), "{text}");
        }
    }
}
