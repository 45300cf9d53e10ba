//! The names that a package may use: one grammar, whatever the platform it is read on.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};
use unicode_normalization::UnicodeNormalization as _;

use super::refusal::{Code, Refusal};

/// Never replaced, whatever a package claims, wherever they stand.
const PROTECTED: [&str; 7] = [
    "license/_core.pyd",
    "license/__init__.py",
    "license.dat",
    "config.txt",
    "credentials.env",
    "agent/cert.pem",
    "agent/key.pem",
];

/// Names that Windows takes for devices, whatever their ending.
const DEVICES: [&str; 7] = ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"];

/// Folders in folders; each is looked at for each name.
const MOST_PARTS: usize = 16;

/// As many as there may be files; each is kept in memory before anybody is trusted.
const MOST_FOLDERS: usize = 20_000;

/// Relative, `/` only, and what no supported platform reads as something else.
///
/// # Errors
/// [`Code::BadName`].
pub fn check(name: &str) -> Result<(), Refusal> {
    let bad = |why: &str| Err(Refusal::new(Code::BadName, format!("the name {name:?} {why}")));
    if name.is_empty() {
        return bad("is empty");
    }
    if name.starts_with('/') {
        return bad("is absolute");
    }
    if let Some(odd) = name.chars().find(|character| is_odd(*character)) {
        return bad(&format!("contains {odd:?}"));
    }
    if name.split('/').count() > MOST_PARTS {
        return bad(&format!("has more than {MOST_PARTS} parts"));
    }
    for part in name.split('/') {
        match part {
            "" => return bad("has an empty part"),
            "." | ".." => return bad("has a part that points elsewhere"),
            _ if part.ends_with(['.', ' ']) => return bad("has a part that ends with a dot or a space"),
            _ if part.starts_with(' ') => return bad("has a part that begins with a space"),
            _ if is_device(part) => return bad("has a part that Windows takes for a device"),
            _ => {}
        }
    }
    Ok(())
}

/// Separators and drives of Windows, wildcards and redirections that it forbids, and what does not show.
fn is_odd(character: char) -> bool {
    matches!(character, '\\' | ':' | '<' | '>' | '"' | '|' | '?' | '*' | '\u{feff}' | '\u{fffd}')
        || character.is_control()
        // Marks that change the direction of writing make a name look like another one.
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end_matches(' ').to_lowercase();
    let numbered = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt")).is_some_and(|rest| {
        let mut characters = rest.chars();
        characters.next().is_some_and(|digit| digit.is_ascii_digit() || matches!(digit, '¹' | '²' | '³'))
            && characters.next().is_none()
    });
    numbered || DEVICES.contains(&stem.as_str())
}

/// One of the names that no package replaces.
///
/// # Errors
/// [`Code::ProtectedName`].
pub fn check_protected(path: &str) -> Result<(), Refusal> {
    let folded = fold(path);
    let hit = PROTECTED
        .iter()
        .find(|name| folded.strip_suffix(*name).is_some_and(|before| before.is_empty() || before.ends_with('/')));
    match hit {
        Some(name) => {
            Err(Refusal::new(Code::ProtectedName, format!("{path} would replace {name}, which no package may")))
        }
        None => Ok(()),
    }
}

/// That no two names are one on some platform, and no name is a file here and a folder there.
///
/// # Errors
/// [`Code::NameCollision`].
pub fn check_distinct<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), Refusal> {
    // By hashes: a folded name may be three times as long, and there may be many.
    let folded = |name: &str| -> [u8; 32] { Sha256::digest(fold(name)).into() };
    let mut files: HashMap<[u8; 32], &str> = HashMap::new();
    let mut folders: HashMap<[u8; 32], &str> = HashMap::new();
    // A folder may be spelled in one way only, or two platforms would lay two different trees.
    let mut spellings: HashSet<&str> = HashSet::new();
    let collide = |one: &str, other: &str| {
        Err(Refusal::new(Code::NameCollision, format!("{one:?} and {other:?} are one name on some platforms")))
    };
    for name in names {
        if let Some(other) = files.insert(folded(name), name) {
            return collide(other, name);
        }
        for (at, _) in name.match_indices('/') {
            let folder = &name[..at];
            if !spellings.insert(folder) {
                continue;
            }
            if spellings.len() > MOST_FOLDERS {
                return Err(Refusal::new(
                    Code::TooManyEntries,
                    format!("the names have more than {MOST_FOLDERS} folders"),
                ));
            }
            if let Some(other) = folders.insert(folded(folder), folder) {
                return collide(other, folder);
            }
        }
    }
    match folders.iter().find_map(|(folded, folder)| files.get(folded).map(|file| (*file, *folder))) {
        Some((file, folder)) => collide(file, folder),
        None => Ok(()),
    }
}

/// What names are compared by: composed characters, without regard to case (upper, then lower: `ß` and `SS` meet).
fn fold(name: &str) -> String {
    let composed: String = name.nfc().collect();
    composed.to_uppercase().to_lowercase().nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_pass() {
        for good in
            ["agent", "assets/logo.svg", "assets/Зразок 1.txt", "console.log", "common/x", "a.b.c", "nulls", "комп"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_on_some_platform_are_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "../up",
            "a/../b",
            "./a",
            "a//b",
            "a/",
            "C:/x",
            "c:x",
            "\\\\server\\share",
            "a\\b",
            "a\0b",
            "a\nb",
            "con",
            "CON.txt",
            "assets/nul.tar.gz",
            "COM1",
            "com¹.txt",
            "LPT9",
            "aux .txt",
            "name.",
            "name ",
            "a./b",
            "a:stream",
            "what?",
            "\u{202e}gpj.exe",
            "CONIN$",
            " a",
        ] {
            assert_eq!(check(bad).unwrap_err().code, Code::BadName, "{bad:?}");
        }
    }

    #[test]
    fn names_that_are_one_somewhere_collide() {
        for (one, other) in [
            ("Readme", "README"),
            ("assets/é", "assets/e\u{301}"),
            ("stra\u{df}e", "STRASSE"),
            ("agent", "agent/x"),
            ("Agent/x", "agent"),
            ("Assets/a", "assets/b"),
        ] {
            assert_eq!(check_distinct([one, other]).unwrap_err().code, Code::NameCollision, "{one} {other}");
        }
        assert_eq!(check_distinct(["a/b", "a/c", "a.b", "ab/c"]), Ok(()));
    }

    #[test]
    fn the_plants_own_files_are_protected_wherever_they_stand() {
        for bad in [
            "license.dat",
            "assets/config.txt",
            "x/agent/cert.pem",
            "AGENT/KEY.PEM",
            "license/_core.pyd",
            "a/Credentials.env",
        ] {
            assert_eq!(check_protected(bad).unwrap_err().code, Code::ProtectedName, "{bad}");
        }
        for good in ["myconfig.txt", "agent/cert.pem.md", "xagent/cert.pem", "license.dat/readme", "cert.pem"] {
            assert_eq!(check_protected(good), Ok(()), "{good}");
        }
    }
}
