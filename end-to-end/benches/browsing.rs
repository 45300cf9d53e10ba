//! `cargo bench --bench browsing`: how soon the portal's pages are there in Chromium, and what they take over the wire, the
//! plant having a thousand tags. `-- --quick` is a small one, which shows that it works and no more.

#![cfg(unix)]

use comfy_table::{Table, presets};
use end_to_end::browser::Browser;
use end_to_end::headquarters::Headquarters;
use end_to_end::plant::Plant;
use end_to_end::{columns, programs};

const PAGES: [&str; 5] = ["/", "/readings", "/trend?tag=line1.station01.temperature", "/update", "/log"];
const TAGS: u32 = 1_000;

/// From the address that was asked for to the last thing that the page needs: its document, style, script and icon.
const LOADED: &str = "const page = performance.getEntriesByType('navigation')[0];
    const others = performance.getEntriesByType('resource').filter((it) => ['link', 'script', 'css'].includes(it.initiatorType));
    return [page.loadEventEnd - page.startTime, [page, ...others].reduce((sum, it) => sum + it.transferSize, 0)]";

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--quick") { 1 } else { 15 };
    programs::build().unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir_in(programs::folder()).expect("a writable folder");
    let keys = Headquarters::new(&folder.path().join("keys"), folder.path());
    let mut plant = Plant::init(&folder.path().join("plant"), &keys, "sqlite:data/plant.db", TAGS, None);
    plant.start_and_wait();
    plant.wait_for_readings(u64::from(TAGS));
    let (browser, address) = (Browser::start(), plant.address("portal"));
    // As somebody who was never here before.
    browser.switch_cache_off();
    browser.open(&address);
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["page", "milliseconds, median", "from – to", "kB over the wire"]);
    for page in PAGES {
        let mut milliseconds = Vec::new();
        let mut bytes = 0.0;
        for _ in 0..rounds {
            browser.open(&format!("{address}{page}"));
            let loaded = browser.evaluate(LOADED);
            milliseconds.push(loaded[0].as_f64().expect("a time"));
            bytes = loaded[1].as_f64().expect("a size");
        }
        let (median, spread) = columns(milliseconds);
        table.add_row([page, &median, &spread, &format!("{:.1}", bytes / 1000.0)]);
    }
    println!("{table}");
    plant.stop();
}
