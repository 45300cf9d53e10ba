//! Any bytes as `manifest.json`. What is taken says the same when it is written anew, and a lenient reader of the same
//! bytes reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use updater::package::Manifest;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    assert_eq!(Manifest::parse(&manifest.to_json()).as_ref(), Ok(&manifest));

    let lenient: Value = serde_json::from_slice(bytes).expect("what the strict reader takes is JSON");
    assert_eq!(lenient["version"], manifest.version.to_string());
    assert_eq!(lenient["notes"], manifest.notes);
    let paths =
        |list: &Value| list.as_array().expect("a list").iter().map(|file| file["path"].clone()).collect::<Vec<_>>();
    assert_eq!(paths(&lenient["files"]), manifest.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>());
    assert!(lenient.as_object().is_some_and(|keys| keys.len() <= 17));
});
