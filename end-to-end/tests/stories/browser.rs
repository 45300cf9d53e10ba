//! The portal in a real browser.

use std::path::{Path, PathBuf};
use std::time::Duration;

use end_to_end::browser::{Browser, ENTER, ESCAPE};
use end_to_end::plant::PIN;
use end_to_end::portal::{Answer, ask};
use end_to_end::programs::run;
use end_to_end::python;
use end_to_end::wait_for;

use crate::door::address_of_another_machine;
use crate::gathering::SOON;
use crate::updating::ATTEMPT;
use crate::{SQLITE, World};

impl World {
    fn page(&self, path: &str) -> String {
        format!("{}{path}", self.plant.portal())
    }
}

/// As an operator does it: with the keys on the screen.
fn enter_pin(browser: &Browser, pin: &str) {
    browser.wait_for_text("#pin-dialog", "PIN");
    for digit in pin.chars() {
        browser.click(&format!("#pin-dialog [data-key='{digit}']"));
    }
    browser.click("#pin-dialog [type=submit]");
}

/// Gone with a reload.
fn mark(browser: &Browser) {
    browser.evaluate("window.marked = true");
}

fn is_marked(browser: &Browser) -> bool {
    browser.evaluate("return window.marked === true") == true
}

#[test]
fn an_operator_reads_of_an_update_applies_it_and_sees_the_new_version() {
    let world = World::on_short_trial(SQLITE);
    let browser = Browser::start();
    browser.open(&world.page("/"));
    browser.wait_for_text("main", "Everything is running.");
    mark(&browser);
    let release = world.release("0.2.0").notes("Reads the <b>second</b> press as well.");
    world.deliver(&release.publish(&world.headquarters));
    browser.wait_for_text("#badge", "Update received v0.2.0");
    assert!(is_marked(&browser), "without a reload");
    browser.click("#badge a");
    browser.wait_for_text(".notes", "Reads the <b>second</b> press as well.");
    browser.new_tab(&world.page("/readings"));
    browser.wait_for_text("#badge", "Update received v0.2.0");
    browser.switch_to(0);

    browser.click("[data-ask='/api/update/apply']");
    enter_pin(&browser, "0000");
    browser.wait_for_text("#pin-problem", "PIN");
    for _ in 0..4 {
        browser.click("#pin-dialog [data-key=erase]");
    }
    enter_pin(&browser, PIN);
    browser.wait_for_text(".progress", "%");
    mark(&browser);
    // Opened in the middle.
    browser.switch_to(1);
    browser.open(&world.page("/update"));
    browser.switch_to(0);
    world.plant.wait_for_attempt(1, ATTEMPT);
    wait_for("the page to load itself again", Duration::from_secs(10), || (!is_marked(&browser)).then_some(()));
    browser.wait_within(Duration::from_secs(10), "main", "Update to version 0.2.0 done.");
    browser.switch_to(1);
    browser.wait_for_text("main", "Update to version 0.2.0 done.");
    browser.open(&world.page("/"));
    browser.wait_for_text(".facts", "0.2.0");
    browser.open(&world.page("/log"));
    browser.wait_for_text(".list", "The update to version 0.2.0 was approved.");
}

#[test]
fn later_a_failure_and_a_package_that_was_replaced_are_told_as_they_are() {
    let world = World::on_short_trial(SQLITE);
    let browser = Browser::start();
    browser.open(&world.page("/update"));
    browser.wait_for_text("main", "No update is waiting.");
    world.deliver(&world.release("0.2.0").publish(&world.headquarters));
    browser.click("[data-ask='/api/update/later']");
    enter_pin(&browser, PIN);
    browser.wait_for_text("#badge", "Update v0.2.0 put off");

    // Between reading and PIN, another one comes.
    browser.click("[data-ask='/api/update/apply']");
    browser.wait_for_text("#pin-dialog", "Apply version 0.2.0");
    let ill = world.release("0.3.0").script("collector", "exit 1");
    world.deliver(&ill.publish(&world.headquarters));
    wait_for("the supervisor to have taken it", SOON, || {
        (world.plant.status()?.update.pending?.version == "0.3.0").then_some(())
    });
    enter_pin(&browser, PIN);
    browser.wait_for_text("#notice", "another");
    browser.wait_for_text("#live", "0.3.0");
    assert_eq!(world.plant.boot_record().attempts, 0, "nothing was applied");

    browser.click("[data-ask='/api/update/apply']");
    enter_pin(&browser, PIN);
    let attempt = world.plant.wait_for_attempt(1, ATTEMPT);
    assert_eq!(attempt["status"], "failed");
    browser.wait_for_text("main", "The update to version 0.3.0 failed.");
    browser.wait_for_text("main", "Version 0.1.0 runs as before");
}

#[test]
fn hands_that_hold_no_mouse_apply_an_update() {
    let world = World::on_short_trial(SQLITE);
    world.deliver(&world.release("0.2.0").publish(&world.headquarters));
    let browser = Browser::start();
    browser.open(&world.page("/"));
    browser.wait_for_text("#badge", "Update received v0.2.0");
    browser.tab_to("#badge a");
    browser.press(ENTER);
    browser.wait_for_text("h1", "Update");
    browser.tab_to("[data-ask='/api/update/apply']");
    browser.press(ENTER);
    browser.wait_for_text("#pin-dialog", "PIN");
    browser.press(ESCAPE);
    wait_for("the dialog to close", SOON, || {
        (browser.evaluate("return document.getElementById('pin-dialog').open") == false).then_some(())
    });
    browser.tab_to("[data-ask='/api/update/apply']");
    browser.press(ENTER);
    browser.wait_for_text("#pin-dialog", "PIN");
    browser.press(PIN);
    browser.press(ENTER);
    assert_eq!(world.plant.wait_for_attempt(1, ATTEMPT)["status"], "ok");
    browser.wait_for_text("main", "Update to version 0.2.0 done.");
}

#[test]
fn other_machines_look_by_tls_alone_and_are_counted_apart() {
    let mut world = World::new(SQLITE);
    world.plant.set("PORTAL_BIND", "0.0.0.0");
    world.plant.set("PORTAL_HOSTS", "plant-pc.local");
    world.plant.start_and_wait();
    let address = world.plant.address("portal");
    let port = address.strip_prefix("https://0.0.0.0:").unwrap_or_else(|| panic!("{address}"));
    let own = address_of_another_machine();
    let (there, here) = (format!("{own}:{port}"), format!("http://127.0.0.1:{port}"));

    let browser = Browser::taking_any_certificate();
    browser.open(&format!("http://{there}/readings?filter=a"));
    browser.wait_for_text("h1", "Readings");
    assert_eq!(browser.evaluate("return location.href"), format!("https://{there}/readings?filter=a"));
    browser.open(&here);
    browser.wait_for_text("main", "Everything is running.");

    let curl = |arguments: &[&str]| {
        let mut command = std::process::Command::new("curl");
        let ended =
            run(command.args(["-sk", "-i", "-m", "20", "-H", "Content-Type: application/json"]).args(arguments));
        ended.output
    };
    let enter = |base: &str, pin: &str| {
        let headers = format!("Content-Type: application/json\r\nX-Config-Pin: {pin}\r\n");
        match base.starts_with("http:") {
            true => ask(base, "POST", "/api/session", &headers, "{}").unwrap().status,
            false => {
                let pin = format!("X-Config-Pin: {pin}");
                let said = curl(&["-H", &pin, "-d", "{}", &format!("{base}/api/session")]);
                said.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{said}"))
            }
        }
    };
    // Not even the right PIN, where everybody could read it.
    assert_eq!(enter(&format!("http://{there}"), PIN), 403);
    let said = curl(&["-H", &format!("X-Config-Pin: {PIN}"), "-d", "{}", &format!("https://{there}/api/session")]);
    let cookie = said.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: session=")).unwrap();
    assert!(cookie.contains("; Secure") && cookie.contains("; HttpOnly"), "{cookie}");
    let named = format!("plant-pc.local:{port}:{own}");
    let by_name = curl(&["--resolve", &named, &format!("https://plant-pc.local:{port}/")]);
    assert!(by_name.starts_with("HTTP/1.1 200"), "{by_name}");
    let foreign = curl(&["-H", "Host: evil.example", &format!("https://{there}/")]);
    assert!(foreign.starts_with("HTTP/1.1 421"), "{foreign}");

    let there = format!("https://{there}");
    let tried: Vec<u16> = (0..6).map(|_| enter(&there, "999999")).collect();
    assert_eq!(tried, [403, 403, 403, 403, 429, 429]);
    assert_eq!(enter(&there, PIN), 429);
    assert_eq!(enter(&here, PIN), 204, "the plant PC itself is counted apart");

    // A certificate of one's own is taken up without a restart.
    let before = world.plant.pid("portal");
    let folder = world.plant.root.join("portal");
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "99", "-subj", "/CN=of-the-plants-own-ca"]);
    run(openssl.arg("-keyout").arg(folder.join("key.pem")).arg("-out").arg(folder.join("cert.pem"))).good();
    wait_for("the new certificate", SOON, || {
        curl(&["-v", "--stderr", "-", &there]).contains("of-the-plants-own-ca").then_some(())
    });
    assert_eq!(world.plant.pid("portal"), before);

    // Without a good one the operator keeps his pages, also across a restart, and nobody else has any.
    let good = std::fs::read(folder.join("cert.pem")).unwrap();
    std::fs::write(folder.join("cert.pem"), "no certificate").unwrap();
    std::fs::write(world.plant.root.join("restart.flag"), "").unwrap();
    wait_for("another portal", SOON, || {
        let pid = world.plant.status()?.children.into_iter().find(|child| child.name == "portal")?.pid?;
        (pid.cast_signed() != before.as_raw_nonzero().get()).then_some(())
    });
    world.plant.wait_until_running();
    let here = world.plant.portal();
    let port = here.rsplit(':').next().unwrap();
    let there = format!("https://{own}:{port}");
    assert_eq!(ask(&here, "GET", "/", "", "").unwrap().status, 200);
    assert_eq!(curl(&[&there]), "");
    wait_for("the reason in the status", SOON, || {
        let told = |problem: &String| problem.contains("on this PC alone") && problem.contains("cert.pem");
        world.plant.status()?.problems.iter().any(told).then_some(())
    });
    std::fs::write(folder.join("cert.pem"), good).unwrap();
    wait_for("the mended certificate", SOON, || curl(&[&there]).starts_with("HTTP/1.1 200").then_some(()));
}

#[test]
fn a_pin_cannot_be_tried_out_across_restarts_and_no_session_is_forced_on_anybody() {
    let mut world = World::running(SQLITE);
    let tried: Vec<u16> = (0..5).map(|_| world.plant.update_status("999999").status).collect();
    assert_eq!(tried, [401, 401, 401, 401, 429]);
    let portal = world.plant.pid("portal");
    rustix::process::kill_process(portal, rustix::process::Signal::KILL).unwrap();
    wait_for("another portal", SOON, || {
        let children = world.plant.status()?.children;
        let pid = children.into_iter().find(|child| child.name == "portal" && child.address.is_some())?.pid?;
        (pid.cast_signed() != portal.as_raw_nonzero().get()).then_some(())
    });
    world.plant.wait_until_running();
    assert_eq!(world.plant.update_status(PIN).status, 429, "the supervisor counts");
    assert!(!world.plant.logs_have(PIN));
    let supervisor = world.plant.supervisor();
    world.plant.kill_launcher();
    wait_for("the supervisor to go", SOON, || rustix::process::test_kill_process(supervisor).is_err().then_some(()));
    world.plant.start_and_wait();
    assert_eq!(world.plant.update_status(PIN).status, 429, "a restart of everything is no way out");
    let text = std::fs::read_to_string(world.plant.root.join("state/pin.json")).unwrap();
    assert!(!text.contains("999999") && !text.contains(PIN), "{text}");
    world.plant.stop();
    assert!(!world.plant.logs_have(PIN) && !world.plant.logs_have("999999"), "a PIN is in a log");
    world.plant.start_and_wait();
    assert_eq!(world.plant.update_status(PIN).status, 429, "nor is one that was asked for");
    world.plant.stop();
    let new_pin = ["reset-pin", "--pin", PIN, "--root"];
    run(world.plant.command("watchdog").args(new_pin).arg(&world.plant.root)).good();
    world.plant.start_and_wait();

    // What somebody has laid into a browser beforehand is nobody's session, before the PIN and after it.
    let planted = "Cookie: session=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n";
    let address = world.plant.address("portal");
    let status = |cookie: &str| ask(&address, "GET", "/api/update/status", cookie, "").unwrap().status;
    assert_eq!(status(planted), 401);
    let headers = format!("{planted}Content-Type: application/json\r\nX-Config-Pin: {PIN}\r\n");
    let Answer { status: entered, head, .. } = ask(&address, "POST", "/api/session", &headers, "{}").unwrap();
    assert_eq!((entered, status(planted)), (204, 401));

    // Whoever had the PIN is out once another is set on site.
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap().split(';').next().unwrap();
    let own = format!("Cookie: {cookie}\r\n");
    assert_eq!(status(&own), 200);
    let reset = ["reset-pin", "--pin", "135790", "--root"];
    run(world.plant.command("watchdog").args(reset).arg(&world.plant.root)).good();
    wait_for("the session to end", SOON, || {
        let answer = ask(&address, "GET", "/api/update/status", &own, "").ok()?;
        (answer.status == 401).then_some(())
    });
    assert!(!world.plant.logs_have(PIN), "no log has the PIN");
}

#[test]
fn the_first_page_is_light_and_can_be_read_without_a_script() {
    let world = World::with_sources("[[simulator]]\nname = \"line\"\ntags = 1000\nperiod_seconds = 1.0\n");
    let mut world = world;
    world.plant.start_and_wait();
    world.plant.wait_for_readings(1000);
    for path in ["/", "/readings"] {
        // One that has nothing yet.
        let browser = Browser::start();
        browser.open(&world.page(path));
        let bytes = browser.evaluate(
            "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource').filter((it) => it.initiatorType !== 'other')].reduce((sum, it) => sum + it.transferSize, 0)",
        );
        let bytes = bytes.as_f64().unwrap();
        assert!((1_000.0..150_000.0).contains(&bytes), "{path} takes {bytes} bytes");
    }
    let browser = Browser::start();
    browser.switch_scripts_off();
    for (path, text) in [
        ("/", "Everything is running."),
        ("/readings", "line.station01.temperature"),
        ("/trend?tag=line.station01.temperature", "line.station01.temperature"),
        ("/update", "No update is waiting."),
        ("/sessions", "Sessions"),
        ("/log", "Events"),
        ("/help", "PIN"),
    ] {
        browser.open(&world.page(path));
        browser.wait_for_text("main", text);
        if path.starts_with("/trend") {
            let drawn = browser.evaluate("return 'drawn' in document.getElementById('chart').dataset");
            assert_eq!(drawn, false, "scripts are off");
        }
    }
}

#[test]
fn wrong_pins_lock_the_pad_and_a_changed_pin_is_asked_for() {
    let world = World::running(SQLITE);
    let browser = Browser::start();
    browser.open(&world.page("/settings"));
    let change = |now: &str, new: &str| {
        browser.evaluate("document.getElementById('pin-form').reset()");
        for (field, text) in [("#pin-now", now), ("#pin-new", new), ("#pin-again", new)] {
            browser.type_into(field, text);
        }
        browser.click("#pin-form [type=submit]");
    };
    change(PIN, "135790");
    browser.wait_for_text("#pin-said", "The PIN is changed.");
    for _ in 0..5 {
        change(PIN, "999999");
        browser.wait_for_text("#pin-said", "PIN");
    }
    browser.wait_for_text("#pin-said", "wrong");
    browser.open(&world.page("/log"));
    browser.wait_for_text(".list", "Too many wrong PINs");
    assert_eq!(world.plant.update_status("135790").status, 429, "the right one as well, for a while");
}

#[test]
fn a_trend_is_drawn_and_looked_into_and_old_pages_find_a_restarted_portal() {
    let mut world = World::with_sources("[[simulator]]\nname = \"line\"\ntags = 5\nperiod_seconds = 0.1\n");
    world.plant.start_and_wait();
    world.plant.wait_for_readings(300);
    let browser = Browser::start();
    browser.open(&world.page("/readings"));
    browser.click("a[href='/trend?tag=line.station01.temperature']");
    browser.wait_for_text("h1", "line.station01.temperature");
    let drawn =
        || browser.evaluate("return Number(document.getElementById('chart').dataset.drawn) || 0").as_f64().unwrap();
    wait_for("a chart", SOON, || (drawn() > 0.0).then_some(()));
    assert_eq!(browser.evaluate("return document.querySelectorAll('#chart canvas').length"), 1);
    browser.click(".spans a[href*='span=1h']");
    browser.wait_for_text(".spans [aria-current]", "60");
    wait_for("a chart", SOON, || (drawn() > 0.0).then_some(()));
    let csv = browser.evaluate_later(
        "const answer = await fetch(document.querySelector('a[download]').href); return await answer.text();",
    );
    let csv = csv.as_str().unwrap();
    assert!(csv.starts_with("time,tag,value,unit,quality,text\n") && csv.lines().count() > 30, "{csv}");
    for (asked, status) in [
        ("/api/trend?tag=none", 404),
        ("/history.csv?tag=none", 404),
        ("/trend.svg?tag=none", 404),
        ("/trend?tag=none", 404),
        ("/trend?tag=line.station01.temperature&from=yesterday", 400),
    ] {
        let said = ask(&world.plant.portal(), "GET", asked, "", "").unwrap();
        assert_eq!(said.status, status, "{asked}: {said:?}");
        assert!(!said.body.contains("deserialize"), "{said:?}");
    }

    browser.open(&world.page("/"));
    browser.wait_for_text("main", "Everything is running.");
    rustix::process::kill_process(world.plant.pid("portal"), rustix::process::Signal::KILL).unwrap();
    browser.wait_for_text("#lost", "Connection lost.");
    wait_for("the page to be fresh again", SOON, || {
        (browser.evaluate("return document.body.classList.contains('stale')") == false).then_some(())
    });
}

const PAGES: [(&str, &str); 8] = [
    ("overview", "/"),
    ("readings", "/readings"),
    ("trend", "/trend?tag=line1.station01.temperature&span=1h"),
    ("update", "/update"),
    ("sessions", "/sessions"),
    ("events", "/log"),
    ("settings", "/settings"),
    ("help", "/help"),
];

/// The rules of accessibility, as the page's own script.
fn axe() -> String {
    let environment = python::environment("axe", &["axe-core-python==0.1.0"]);
    let mut library = environment.join("lib");
    library = std::fs::read_dir(&library).unwrap().next().unwrap().unwrap().path();
    let file = library.join("site-packages/axe_core_python/axe.min.js");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Where pictures go: below `target`, or into the handbook's folder when that is asked for.
fn pictures() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let keep = std::env::var_os("PLANTLINK_KEEP_SCREENSHOTS").is_some();
    workspace.join(if keep { "docs/screenshots" } else { "target/screenshots" })
}

#[test]
fn every_page_in_every_language_is_accessible_and_fits_every_screen() {
    let world = World::on_short_trial(SQLITE);
    world.headquarters.pull(world.plant.agent_port());
    world.deliver(&world.release("0.2.0").notes("What is new in 0.2.0").publish(&world.headquarters));
    let (browser, axe, pictures) = (Browser::start(), axe(), pictures());
    for language in ["en", "uk", "fr"] {
        browser.open(&world.page(&format!("/language?to={language}&back=/")));
        for (name, path) in PAGES {
            for width in [360, 1024, 1920] {
                browser.resize(width, 900);
                browser.open(&world.page(path));
                assert_eq!(browser.evaluate("return document.documentElement.lang"), language);
                if name == "trend" {
                    wait_for("a chart", SOON, || {
                        browser
                            .evaluate("return 'drawn' in document.getElementById('chart').dataset")
                            .as_bool()?
                            .then_some(())
                    });
                }
                let over =
                    browser.evaluate("return document.documentElement.scrollWidth - innerWidth").as_i64().unwrap();
                assert!(over <= 0, "{name} in {language} is {over} pixels wider than {width}");
                if width == 1024 {
                    browser.screenshot(&pictures.join(language).join(format!("{name}.png")));
                }
            }
            let outside = browser.evaluate("return performance.getEntriesByType('resource').map((it) => new URL(it.name).origin).filter((it) => it !== location.origin)");
            assert_eq!(outside, serde_json::json!([]), "{name} asks elsewhere");
            for colours in ["dark", "light"] {
                browser.prefer_colours(colours);
                let found = browser.evaluate_later(&format!(
                    "if (!matchMedia('(prefers-color-scheme: {colours})').matches) return 'not {colours}'; {axe}; const found = await axe.run(); if (found.passes.length < 10) return found.passes.length; return found.violations.map((it) => it.id + ': ' + it.nodes.map((node) => node.html).join(' '));"
                ));
                assert_eq!(found, serde_json::json!([]), "{name} in {language}, {colours}");
            }
        }
    }
}
