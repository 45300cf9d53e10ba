//! The operator's part of updates, as a program asks for it.

#![allow(clippy::unwrap_used)]

mod plant;

use config::Language;
use plant::keeper::PIN;
use plant::package::{step, with_package};
use plant::{Plant, all_running, json};
use protocol::control::{Answer, Caller, Question, Secret};

const STATUS: &str = "/api/update/status";
const APPLY: &str = "/api/update/apply";
const LATER: &str = "/api/update/later";
const SESSION: &str = "/api/session";

async fn with_waiting() -> Plant {
    Plant::with(Some(with_package("1.3.0", "aa11")), Language::English).await
}

fn pin_header() -> String {
    format!("X-Config-Pin: {PIN}\r\n")
}

fn approve(manifest_sha256: &str) -> String {
    format!(r#"{{"pin":"{PIN}","manifest_sha256":"{manifest_sha256}"}}"#)
}

/// The cookie's `name=value`, as a browser would send it.
async fn session(plant: &Plant) -> String {
    let answer = plant.post(SESSION, "", &format!(r#"{{"pin":"{PIN}"}}"#)).await;
    let cookie = answer.split("set-cookie: ").nth(1).unwrap_or_else(|| panic!("no cookie: {answer}"));
    format!("Cookie: language=en; {}\r\n", cookie.split(';').next().unwrap())
}

fn assert_status(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "not {status}: {answer}");
    assert!(answer.contains("x-content-type-options: nosniff\r\n") && answer.contains("cache-control: no-store\r\n"));
    assert!(!answer.contains(PIN), "the PIN got out: {answer}");
}

#[tokio::test]
async fn the_status_tells_all_of_the_package_that_waits_to_whoever_has_the_pin() {
    let plant = with_waiting().await;
    let answer = plant.get(STATUS, &pin_header()).await;
    assert_status(&answer, 200);
    let expected = serde_json::json!({
        "current_version": "1.2.0", "phase": "committed", "pending_update": true, "pending_version": "1.3.0",
        "notes": "Alarm at 80 °C.\n  Faster trends.", "received_at": "2026-02-22T09:59:12.000Z",
        "manifest_sha256": "aa11", "state": "waiting",
        "changes": { "added": ["assets/alarms.json"], "changed": ["portal"], "removed": [] },
        "signers": ["3f9a62c0d1e24b7788aa90ff12cd34ef"], "bound": true, "migrations": ["0012_add_alarms"],
        "package_bytes": 18_345_678, "error": null,
    });
    assert_eq!(json(&answer), expected);

    plant.becomes(all_running());
    let nothing = json(&plant.get(STATUS, &pin_header()).await);
    assert_eq!(nothing["pending_update"], false);
    assert!(nothing["manifest_sha256"].is_null() && nothing["changes"].is_null() && nothing["bound"].is_null());
}

#[tokio::test]
async fn without_the_pin_nothing_is_told() {
    let plant = with_waiting().await;
    for path in [STATUS, "/api/update/progress"] {
        let none = plant.get(path, "Cookie: session=0123456789abcdef\r\n").await;
        assert_status(&none, 401);
        assert_eq!(json(&none)["error"], "pin required");
        let wrong = plant.get(path, "X-Config-Pin: 000000\r\n").await;
        assert_status(&wrong, 401);
        assert_eq!((&json(&wrong)["error"], &json(&wrong)["tries_left"]), (&"wrong pin".into(), &4.into()));
    }
    assert_status(&plant.post(LATER, "", "{}").await, 401);

    plant.keeper.answers(Some(Answer::LockedOut { seconds: 300 }));
    let locked = plant.get(STATUS, &pin_header()).await;
    assert_status(&locked, 429);
    assert!(locked.contains("retry-after: 300\r\n"), "{locked}");
    plant.keeper.answers(None);
    assert_status(&plant.get(STATUS, &pin_header()).await, 503);
}

#[tokio::test]
async fn an_approval_goes_to_the_supervisor_and_its_answer_comes_back() {
    let plant = with_waiting().await;
    let accepted = plant.post(APPLY, "", &approve("aa11")).await;
    assert_status(&accepted, 202);
    assert_eq!(json(&accepted), serde_json::json!({ "status": "accepted" }));
    let question =
        Question::Approve { pin: Secret(PIN.into()), caller: Caller::Local, manifest_sha256: "aa11".to_owned() };
    assert_status(&plant.post(APPLY, &pin_header(), r#"{"manifest_sha256":"aa11"}"#).await, 202);
    assert_eq!(plant.keeper.asked(), [question.clone(), question]);

    let replaced = plant.post(APPLY, "", &approve("bb22")).await;
    assert_status(&replaced, 409);
    assert_eq!((&json(&replaced)["error"], &json(&replaced)["reason"]), (&"replaced".into(), &().into()));
    assert_eq!(json(&replaced)["detail"], "another package waits");

    let wrong = plant.post(APPLY, "", r#"{"pin":"0000","manifest_sha256":"aa11"}"#).await;
    assert_status(&wrong, 403);
    assert_eq!((&json(&wrong)["error"], &json(&wrong)["tries_left"]), (&"wrong pin".into(), &4.into()));

    plant.keeper.answers(Some(Answer::LockedOut { seconds: 60 }));
    let locked = plant.post(APPLY, "", &approve("aa11")).await;
    assert_status(&locked, 429);
    assert!(locked.contains("retry-after: 60\r\n"), "{locked}");
    plant.keeper.answers(None);
    assert_status(&plant.post(APPLY, "", &approve("aa11")).await, 503);
}

#[tokio::test]
async fn somebody_at_another_machine_is_told_apart_from_the_plant_pc() {
    let plant = Plant::seen_from([10, 0, 0, 7], Some(with_package("1.3.0", "aa11")), Language::English).await;
    assert_status(&plant.get(STATUS, &pin_header()).await, 200);
    assert_eq!(plant.keeper.asked(), [Question::Pin { pin: Secret(PIN.into()), caller: Caller::Remote }]);
}

#[tokio::test]
async fn a_yes_without_a_hash_counts_only_while_one_package_has_been_there() {
    let plant = Plant::running().await;
    let yes = format!(r#"{{"pin":"{PIN}"}}"#);
    let nothing = plant.post(APPLY, "", &yes).await;
    assert_status(&nothing, 409);
    assert_eq!(json(&nothing)["error"], "nothing waits");
    assert_status(&plant.post(APPLY, "", r#"{"pin":"0000"}"#).await, 403);

    plant.becomes(with_package("1.3.0", "aa11"));
    let early = session(&plant).await;
    assert_status(&plant.post(APPLY, "", &yes).await, 202);
    plant.becomes(with_package("1.4.0", "bb22"));
    let late = session(&plant).await;
    for headers in ["", &early] {
        let unclear = plant.post(APPLY, headers, &yes).await;
        assert_status(&unclear, 409);
        assert_eq!(json(&unclear)["error"], "hash required");
        assert_status(&plant.post(LATER, &format!("{headers}{}", pin_header()), "").await, 409);
    }
    assert_status(&plant.post(APPLY, &late, &yes).await, 202);
    assert_status(&plant.post(LATER, &late, "").await, 204);
    assert_eq!(plant.keeper.asked().pop(), Some(Question::Postpone { manifest_sha256: "bb22".into() }));
    assert_status(&plant.post(APPLY, "", &approve("bb22")).await, 202);
}

#[tokio::test]
async fn a_session_opens_all_but_the_approval_and_its_cookie_stays_with_this_portal() {
    let plant = with_waiting().await;
    let wrong = plant.post(SESSION, "", r#"{"pin":"0000"}"#).await;
    assert_status(&wrong, 403);
    assert!(json(&wrong)["tries_left"] == 4 && !wrong.contains("set-cookie"), "{wrong}");

    let begun = plant.post(SESSION, "", &format!(r#"{{"pin":"{PIN}"}}"#)).await;
    assert_status(&begun, 204);
    let cookie = begun.lines().find_map(|line| line.strip_prefix("set-cookie: session=")).unwrap();
    let (token, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!((token.len(), attributes), (64, "Path=/; HttpOnly; SameSite=Strict"));

    let cookie = session(&plant).await;
    plant.keeper.asked();
    assert_status(&plant.get(STATUS, &cookie).await, 200);
    assert_status(&plant.post(LATER, &cookie, r#"{"manifest_sha256":"aa11"}"#).await, 204);
    assert_eq!(plant.keeper.asked(), [Question::Postpone { manifest_sha256: "aa11".into() }]);
    assert_status(&plant.post(APPLY, &cookie, r#"{"manifest_sha256":"aa11"}"#).await, 401);
    assert_eq!(plant.keeper.asked(), []);
    // Whoever shows a wrong PIN is not let in by a cookie that lies there.
    assert_status(&plant.get(STATUS, &format!("{cookie}X-Config-Pin: 0000\r\n")).await, 401);
}

#[tokio::test]
async fn what_is_not_understood_is_refused_and_not_quoted() {
    let plant = with_waiting().await;
    let (number, list) = (format!(r#"{{"pin":{PIN}}}"#), format!("[\"{PIN}\"]"));
    let long = format!(r#"{{"pin":"{}"}}"#, "1".repeat(65));
    for body in [&number, &list, &long, "{\"pin\"", "\u{1}"] {
        for path in [APPLY, SESSION] {
            let answer = plant.post(path, "", body).await;
            assert_status(&answer, 400);
            assert_eq!(json(&answer)["error"], "malformed");
        }
    }
    let huge = format!(r#"{{"pin":"{PIN}","manifest_sha256":"{}"}}"#, "a".repeat(8_200));
    assert_status(&plant.post(APPLY, "", &huge).await, 413);
    assert_status(&plant.get(STATUS, &format!("X-Config-Pin: {}\r\n", "1".repeat(65))).await, 400);
    assert_eq!(plant.keeper.asked(), []);
}

#[tokio::test]
async fn no_other_site_can_have_a_browser_press_the_button() {
    let plant = with_waiting().await;
    let json_type = "Content-Type: application/json\r\n";
    for headers in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        &format!("{json_type}Origin: http://evil.example\r\n"),
        &format!("{json_type}Origin: http://localhost:8001\r\n"),
        &format!("{json_type}Origin: null\r\n"),
        &format!("{json_type}Sec-Fetch-Site: cross-site\r\n"),
        &format!("{json_type}Sec-Fetch-Site: same-site\r\n"),
    ] {
        for path in [APPLY, LATER, SESSION] {
            let headers = format!("Host: localhost:8000\r\n{headers}{}", pin_header());
            assert_status(&plant.post_as(&headers, path, &approve("aa11")).await, 403);
        }
    }
    assert_eq!(plant.keeper.asked(), []);
    let own =
        format!("Host: localhost:8000\r\n{json_type}Origin: http://localhost:8000\r\nSec-Fetch-Site: same-origin\r\n");
    assert_status(&plant.post_as(&own, APPLY, &approve("aa11")).await, 202);
}

#[tokio::test]
async fn progress_can_be_joined_in_the_middle_and_follows_into_another_attempt() {
    let mut status = with_package("1.3.0", "aa11");
    status.update.progress = vec![step("verify", 20), step("backup", 40)];
    let plant = Plant::with(Some(status.clone()), Language::English).await;
    let mut progress = plant.listen("/api/update/progress", &pin_header()).await;
    let so_far = progress.until(r#"data: {"step":"backup","pct":40,"msg":"backup says"}"#).await;
    assert!(so_far.contains("content-type: text/event-stream") && !so_far.contains("event:"), "{so_far}");
    assert!(so_far.contains(r#"data: {"step":"verify","pct":20,"msg":"verify says"}"#), "{so_far}");

    progress.forget();
    status.update.progress.push(step("patch", 70));
    plant.becomes(status.clone());
    let new = progress.until(r#"{"step":"patch""#).await;
    assert!(!new.contains("verify") && !new.contains("backup"), "{new}");

    progress.forget();
    status.update.progress = vec![step("verify", 20), step("failed", 0)];
    plant.becomes(status);
    let other = progress.until(r#"{"step":"failed","pct":0"#).await;
    assert!(other.contains(r#"{"step":"verify""#), "{other}");
    progress.until(": beat").await;
}
