//! Clocks that are wrong, and old packages that come again.

use std::fs;

use config::InstallRoot;
use protocol::Timestamp;
use semver::Version;
use serde_json::json;
use updater::package::{Code, Refusal};
use updater::trusted_time::TrustedTime;

use crate::{Draft, judge, situation, trust};

const BEGINNING: &str = "1970-01-01T00:00:10Z";
const FAR: &str = "2099-12-31T00:00:00Z";

/// Judges a package that expires in 2030, on a plant whose agent has kept this floor and whose clock says this.
fn expiring_in_2030(clock: &str, floor: Option<&str>) -> Result<(), Refusal> {
    let folder = tempfile::tempdir().unwrap();
    let root = InstallRoot::new(folder.path());
    if let Some(floor) = floor {
        fs::create_dir_all(root.trusted_time().parent().unwrap()).unwrap();
        // As the agent writes it, with what else it keeps there.
        let times = json!({ "highest_plain": null, "floor": floor, "newest_created": "2026-05-01T00:00:00Z" });
        fs::write(root.trusted_time(), times.to_string()).unwrap();
    }
    let mut here = situation();
    here.time = TrustedTime::read(&root, Timestamp::parse(clock).unwrap());
    let mut draft = Draft::new();
    draft.manifest["expires"] = json!("2030-01-01T00:00:00Z");
    judge(&draft.bytes(), &trust(), &here).map(drop)
}

/// Judges this version where these run, are the floor, and are required at least.
fn version(version: &str, running: &str, floor: &str, least: Option<&str>) -> Option<Code> {
    let mut here = situation();
    (here.running, here.floor) = (running.parse().unwrap(), floor.parse().unwrap());
    let mut draft = Draft::new();
    draft.manifest["version"] = json!(version);
    if let Some(least) = least {
        draft.manifest["min_version"] = json!(least);
    }
    judge(&draft.bytes(), &trust(), &here).err().map(|refusal| refusal.code)
}

#[test]
fn a_package_that_has_expired_stays_so_when_the_clock_is_set_back_to_1970() {
    let refusal = expiring_in_2030(BEGINNING, Some("2030-02-01T00:00:00Z")).unwrap_err();
    assert_eq!(refusal.code, Code::Expired);
    assert!(refusal.detail.contains("2030-02-01") && refusal.detail.contains("clock says 1970-01-01"), "{refusal}");
}

#[test]
fn a_clock_at_2099_refuses_a_package_of_today_and_shows_that_it_is_the_clock() {
    let refusal = expiring_in_2030(FAR, Some("2026-06-01T00:00:00Z")).unwrap_err();
    assert_eq!(refusal.code, Code::Expired);
    for told in
        ["expired at 2030-01-01", "2099-12-31T00:00:00", "this machine's clock", "signed time here is 2026-06-01"]
    {
        assert!(refusal.detail.contains(told), "{refusal}");
    }
    let refusal = expiring_in_2030(FAR, None).unwrap_err();
    assert!(refusal.detail.contains("no signed time is known here"), "{refusal}");
}

#[test]
fn a_clock_at_1970_takes_a_package_that_nothing_signed_says_has_expired() {
    assert_eq!(expiring_in_2030(BEGINNING, None), Ok(()));
    assert_eq!(expiring_in_2030(BEGINNING, Some("2026-06-01T00:00:00Z")), Ok(()));
    assert_eq!(expiring_in_2030(BEGINNING, Some("not a time")), Ok(()));
}

#[test]
fn a_package_expires_at_the_microsecond_that_it_says() {
    assert_eq!(expiring_in_2030("2029-12-31T23:59:59.999999Z", None), Ok(()));
    assert_eq!(expiring_in_2030("2030-01-01T00:00:00Z", None).unwrap_err().code, Code::Expired);
    assert_eq!(expiring_in_2030(BEGINNING, Some("2030-01-01T00:00:00Z")).unwrap_err().code, Code::Expired);
}

#[test]
fn pre_releases_come_before_their_release_and_in_the_order_of_semver() {
    // The order that semver.org gives, and what is put on what.
    let order = [
        "1.2.0-alpha",
        "1.2.0-alpha.1",
        "1.2.0-alpha.beta",
        "1.2.0-beta",
        "1.2.0-beta.2",
        "1.2.0-beta.11",
        "1.2.0-rc.1",
        "1.2.0",
        "1.2.1-0",
        "1.2.1",
    ];
    for (at, running) in order.iter().enumerate() {
        for (other, candidate) in order.iter().enumerate() {
            let expected = match other.cmp(&at) {
                std::cmp::Ordering::Less => Some(Code::OlderVersion),
                std::cmp::Ordering::Equal => Some(Code::SameVersion),
                std::cmp::Ordering::Greater => None,
            };
            // What runs is the floor, unless a package of keys has lowered it.
            assert_eq!(version(candidate, running, running, None), expected, "{candidate} on {running}");
        }
    }
}

#[test]
fn build_metadata_makes_no_version_newer_or_older() {
    for (candidate, running) in
        [("1.2.0+b", "1.2.0+a"), ("1.2.0+a", "1.2.0+b"), ("1.2.0", "1.2.0+a"), ("1.2.0+a", "1.2.0")]
    {
        assert_eq!(version(candidate, running, "1.0.0", None), Some(Code::SameVersion), "{candidate} on {running}");
    }
    assert_eq!(version("1.2.0+a", "1.1.0", "1.2.0+z", None), None, "the floor itself is not below the floor");
    assert_eq!(version("1.2.0-rc.1+z", "1.1.0", "1.2.0+a", None), Some(Code::OlderVersion));
}

#[test]
fn a_least_version_is_compared_as_semver_says() {
    assert_eq!(version("1.2.0", "1.1.0-rc.1", "1.0.0", Some("1.1.0")), Some(Code::MinVersion));
    assert_eq!(version("1.2.0", "1.1.0", "1.0.0", Some("1.1.0-rc.1")), None);
    assert_eq!(version("1.2.0", "1.1.0", "1.0.0", Some("1.1.0+later")), None);
    assert_eq!(version("1.2.0", "1.1.0+a", "1.0.0", Some("1.1.1-0")), Some(Code::MinVersion));
}

#[test]
fn a_package_that_was_good_once_is_refused_when_it_comes_again() {
    let signed = Draft::new().bytes();
    let judged = |running: &str, floor: &str| {
        let mut here = situation();
        (here.running, here.floor) = (running.parse::<Version>().unwrap(), floor.parse().unwrap());
        judge(&signed, &trust(), &here).err().map(|refusal| refusal.code)
    };
    assert_eq!(judged("1.1.0", "1.1.0"), None);
    // It runs; a newer one runs; and the one before it runs, put back by hand, but a newer one ran once.
    assert_eq!(judged("1.2.0", "1.2.0"), Some(Code::SameVersion));
    assert_eq!(judged("1.3.0", "1.3.0"), Some(Code::OlderVersion));
    assert_eq!(judged("1.1.0", "1.3.0-rc.1"), Some(Code::OlderVersion));
    // It failed here, and nothing newer ran: it may be tried again.
    assert_eq!(judged("1.1.0", "1.2.0-rc.1"), None);
}
