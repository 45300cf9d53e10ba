//! A list of names, one a line. Those that pass stay where they are put, and those that pass together are two files on
//! every platform, by an opinion that is not our own.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use unicode_normalization::UnicodeNormalization as _;
use updater::package::names;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let names: Vec<&str> = text.split('\n').filter(|name| names::check(name).is_ok()).collect();
    for name in &names {
        let parts: Vec<&str> = name.split('/').collect();
        let components: Vec<Component> = Path::new(name).components().collect();
        assert!(components.iter().all(|component| matches!(component, Component::Normal(_))), "{name:?}");
        assert_eq!(components.len(), parts.len(), "{name:?}");
        assert!(parts.len() <= 16 && !name.contains(['\\', ':', '\0']), "{name:?}");
        for part in parts {
            assert!(!part.is_empty() && part != ".." && part.trim_end_matches(['.', ' ']) == part, "{name:?}");
        }
        // A name is protected or not however it is spelled.
        let (upper, lower) = (name.to_ascii_uppercase(), name.to_ascii_lowercase());
        let protected = [name, upper.as_str(), lower.as_str()].map(|name| names::check_protected(name).is_err());
        assert!(protected.iter().all(|one| *one == protected[0]), "{name:?}");
    }
    if names.len() > 100 || names::check_distinct(names.iter().copied()).is_err() {
        return;
    }
    for (at, one) in names.iter().enumerate() {
        for other in &names[at + 1..] {
            for alike in [ascii, canonical, caseless] {
                let (one, other) = (alike(one), alike(other));
                assert_ne!(one, other);
                let inside =
                    |folder: &str, file: &str| file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
                assert!(!inside(&one, &other) && !inside(&other, &one), "{one:?} {other:?}");
            }
        }
    }
});

fn ascii(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn canonical(name: &str) -> String {
    name.nfd().collect()
}

/// As Unicode defines a caseless match of what is canonically the same, by decomposing first where we compose.
fn caseless(name: &str) -> String {
    name.nfd().collect::<String>().to_uppercase().to_lowercase().nfd().collect()
}
