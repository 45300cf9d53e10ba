//! The portal in a real browser.

use std::path::{Path, PathBuf};
use std::time::Duration;

use end_to_end::browser::Browser;
use end_to_end::plant::PIN;
use end_to_end::python;
use end_to_end::wait_for;

use crate::gathering::SOON;
use crate::updating::ATTEMPT;
use crate::{SQLITE, World};

impl World {
    fn page(&self, path: &str) -> String {
        format!("{}{path}", self.plant.address("portal"))
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
    browser.wait_for_text("main", "0.3.0");
    assert_eq!(world.plant.boot_record().attempts, 0, "nothing was applied");

    browser.click("[data-ask='/api/update/apply']");
    enter_pin(&browser, PIN);
    let attempt = world.plant.wait_for_attempt(1, ATTEMPT);
    assert_eq!(attempt["status"], "failed");
    browser.wait_for_text("main", "The update to version 0.3.0 failed.");
    browser.wait_for_text("main", "Version 0.1.0 runs as before");
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
    let none = browser.evaluate_later("const answer = await fetch('/api/trend?tag=none'); return answer.status;");
    assert_eq!(none, 404);

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
            let found = browser.evaluate_later(&format!(
                "{axe}; const found = await axe.run(); if (found.passes.length < 10) return found.passes.length; return found.violations.map((it) => it.id + ': ' + it.nodes.map((node) => node.html).join(' '));"
            ));
            assert_eq!(found, serde_json::json!([]), "{name} in {language}");
        }
    }
    let outside = browser.evaluate("return performance.getEntriesByType('resource').map((it) => new URL(it.name).origin).filter((it) => it !== location.origin)");
    assert_eq!(outside, serde_json::json!([]));
}
