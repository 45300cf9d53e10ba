//! `migrations/0012_add_alarms.sql`, and its variants: `.sqlite.sql` where SQLite needs another text, `.down.sql` which
//! takes it back on PostgreSQL.

use std::collections::{BTreeMap, HashSet};

use readings::migrate::Migration;

use super::refusal::{Code, Refusal};

/// For which database a text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// The verified texts of a package, by file name.
pub type Texts = BTreeMap<String, String>;

const UP: &str = ".sql";
const SQLITE_UP: &str = ".sqlite.sql";
const DOWN: &str = ".down.sql";

/// Checks names and that every variant belongs to a migration.
pub fn check_names<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<(), Refusal> {
    let bad = |name: &str, why: &str| Err(Refusal::new(Code::BadMigration, format!("migration {name:?} {why}")));
    let all: HashSet<&str> = names.clone().collect();
    let mut seen = HashSet::new();
    for name in names {
        let Some(stem) = stem(name) else { return bad(name, "does not end with .sql") };
        let (number, words) = stem.split_once('_').unwrap_or((stem, ""));
        let numbered = number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
        let worded =
            !words.is_empty() && words.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if !numbered || !worded || name.len() > 100 {
            return bad(name, "is not named like 0012_add_alarms.sql");
        }
        let base = format!("{stem}{UP}");
        if !all.contains(base.as_str()) {
            return bad(name, &format!("is a variant of {base}, which is missing"));
        }
        if !seen.insert(name) {
            return bad(name, "is listed twice");
        }
    }
    Ok(())
}

fn stem(name: &str) -> Option<&str> {
    name.strip_suffix(SQLITE_UP).or_else(|| name.strip_suffix(DOWN)).or_else(|| name.strip_suffix(UP))
}

fn is_base(name: &str) -> bool {
    name.ends_with(UP) && !name.ends_with(SQLITE_UP) && !name.ends_with(DOWN)
}

/// Names of the migrations themselves, in the order in which they run.
pub fn bases<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut bases: Vec<String> = names.filter(|name| is_base(name)).map(str::to_owned).collect();
    bases.sort();
    bases
}

/// That each can be taken back.
pub fn check_downs<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<(), Refusal> {
    let all: HashSet<&str> = names.clone().collect();
    for base in bases(names) {
        let down = format!("{}{DOWN}", stem(&base).unwrap_or_default());
        if !all.contains(down.as_str()) {
            return Err(Refusal::new(Code::NoDown, format!("migration {base} has no {down}, which PostgreSQL needs")));
        }
    }
    Ok(())
}

/// What is run on `dialect`, in order.
pub fn of(texts: &Texts, dialect: Dialect) -> Vec<Migration> {
    let text = |name: String| texts.get(&name).cloned();
    let migration = |base: String| {
        let stem = stem(&base)?.to_owned();
        let special = (dialect == Dialect::Sqlite).then(|| text(format!("{stem}{SQLITE_UP}"))).flatten();
        let up = special.or_else(|| text(base.clone()))?;
        Some(Migration { up, down: text(format!("{stem}{DOWN}")), name: base })
    };
    bases(texts.keys().map(String::as_str)).into_iter().filter_map(migration).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_belong_to_their_migration() {
        let good = ["0012_add_alarms.sql", "0012_add_alarms.sqlite.sql", "0012_add_alarms.down.sql", "0013_x.sql"];
        assert_eq!(check_names(good.into_iter()), Ok(()));
        for bad in [
            vec!["0012_a.sqlite.sql"],
            vec!["12_a.sql"],
            vec!["0012_a.txt"],
            vec!["0012.sql"],
            vec!["0012_a b.sql"],
            vec!["0012_a.sql", "0012_a.sql"],
            vec!["0012_a.sqlite.down.sql"],
        ] {
            assert_eq!(check_names(bad.clone().into_iter()).unwrap_err().code, Code::BadMigration, "{bad:?}");
        }
        assert_eq!(check_downs(good.into_iter()).unwrap_err().code, Code::NoDown);
        assert_eq!(check_downs(good[..3].iter().copied()), Ok(()));
    }

    #[test]
    fn each_database_gets_its_own_text_in_the_order_of_names() {
        let texts: Texts =
            [("0002_b.sql", "b"), ("0001_a.sql", "a"), ("0001_a.sqlite.sql", "lite"), ("0001_a.down.sql", "back")]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into();
        let run = |dialect| of(&texts, dialect).into_iter().map(|migration| migration.up).collect::<Vec<_>>();
        assert_eq!(run(Dialect::Sqlite), ["lite", "b"]);
        assert_eq!(run(Dialect::Postgres), ["a", "b"]);
        assert_eq!(of(&texts, Dialect::Postgres)[0].down.as_deref(), Some("back"));
    }
}
