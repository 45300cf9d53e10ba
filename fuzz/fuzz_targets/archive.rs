//! Any bytes as a package. Nobody trusted has signed them, so they are refused, for their structure or in the end for
//! that; whatever the unsigned look at them takes, it takes again.
#![no_main]

use fuzz::{file_of, situation};
use libfuzzer_sys::fuzz_target;
use updater::package::{Code, Dialect, Limits, Trust, look, reopen, verify};

fuzz_target!(|bytes: &[u8]| {
    let nobody = Trust { keys: Vec::new(), required: 1 };
    let verified = verify(file_of(bytes), &nobody, &Limits::DEFAULT, Some(&situation(Dialect::Sqlite)));
    let refusal = verified.err().expect("a package that nobody signed is taken");
    assert_eq!(Code::from_word(refusal.code.word()), Some(refusal.code));
    if let Ok(looked) = look(file_of(bytes), &Limits::DEFAULT) {
        assert_eq!(refusal.code, Code::InvalidSignature);
        let again = reopen(file_of(bytes), &looked.manifest_sha256, &Limits::DEFAULT);
        assert_eq!(again.ok().map(|package| package.manifest().clone()), Some(looked.manifest));
    }
});
