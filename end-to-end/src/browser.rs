//! Chromium as an operator uses it, by way of its own driver.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{portal, wait_for};

/// As WebDriver writes them.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";

/// What a page takes to show something, on a busy machine.
const SOON: Duration = Duration::from_secs(40);

/// A browser of its own; gone with this.
pub struct Browser {
    driver: Child,
    address: String,
    runtime: Runtime,
    client: Client,
}

impl Browser {
    /// # Panics
    /// Without chromium and chromium-driver.
    pub fn start() -> Self {
        Self::with(json!({}))
    }

    /// One whose user has gone on behind the warning that nobody vouches for the certificate.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn taking_any_certificate() -> Self {
        Self::with(json!({ "acceptInsecureCerts": true }))
    }

    fn with(capabilities: Value) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver, of Debian's chromium-driver: {error}"));
        let mut said = BufReader::new(driver.stdout.take().expect("a pipe"));
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert_ne!(said.read_line(&mut line).expect("a pipe"), 0, "chromedriver ended at once");
            let port =
                line.split("on port ").nth(1).and_then(|rest| rest.trim().trim_end_matches('.').parse::<u16>().ok());
            if let Some(port) = port.filter(|port| *port != 0) {
                break port;
            }
        };
        // Whatever it says later is nobody's.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"];
        let mut capabilities: Capabilities = serde_json::from_value(capabilities).expect("an object");
        capabilities.insert("goog:chromeOptions".to_owned(), json!({ "args": arguments }));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let address = format!("http://127.0.0.1:{port}");
        let connected = runtime.block_on(builder.capabilities(capabilities).connect(&address));
        let client = connected.unwrap_or_else(|error| panic!("Chromium, of Debian's chromium: {error}"));
        Self { driver, address, runtime, client }
    }

    /// From here on for somebody who has chosen dark colours, or light ones.
    ///
    /// # Panics
    /// If the driver refuses.
    pub fn prefer_colours(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// From here on pages have no script that runs.
    ///
    /// # Panics
    /// If the driver refuses.
    pub fn switch_scripts_off(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    }

    /// From here on every page is fetched whole, as if for the first time.
    ///
    /// # Panics
    /// If the driver refuses.
    pub fn switch_cache_off(&self) {
        self.devtools("Network.enable", json!({}));
        self.devtools("Network.setCacheDisabled", json!({ "cacheDisabled": true }));
    }

    fn devtools(&self, command: &str, parameters: Value) {
        let session = self.runtime.block_on(self.client.session_id()).ok().flatten().expect("a session");
        let path = format!("/session/{session}/goog/cdp/execute");
        let body = json!({ "cmd": command, "params": parameters }).to_string();
        let answer = portal::ask(&self.address, "POST", &path, "Content-Type: application/json\r\n", &body);
        let answer = answer.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answer.status, 200, "{command}: {answer:?}");
    }

    /// Presses keys, wherever the focus is.
    ///
    /// # Panics
    /// If the driver refuses.
    pub fn press(&self, keys: &str) {
        let pressed = self.runtime.block_on(async { self.client.active_element().await?.send_keys(keys).await });
        pressed.unwrap_or_else(|error| panic!("keys {keys:?}: {error}"));
    }

    /// Presses the tabulator until an element that `selector` names has the focus.
    ///
    /// # Panics
    /// If none ever has.
    pub fn tab_to(&self, selector: &str) {
        let focused = format!("return document.activeElement.matches({})", json!(selector));
        for _ in 0..100 {
            if self.evaluate(&focused) == true {
                let visible = "const box = document.activeElement.getBoundingClientRect(); return box.width > 0 && getComputedStyle(document.activeElement).outlineStyle !== 'none'";
                assert_eq!(self.evaluate(visible), true, "{selector} has the focus, and nobody sees it");
                return;
            }
            self.press(TAB);
        }
        panic!("the tabulator never comes to {selector}");
    }

    /// Again while nobody answers there, as somebody in front of it would.
    ///
    /// # Panics
    /// If there never is an answer.
    pub fn open(&self, url: &str) {
        wait_for(url, SOON, || self.runtime.block_on(self.client.goto(url)).ok());
    }

    /// # Panics
    /// If the driver refuses.
    pub fn resize(&self, width: u32, height: u32) {
        self.runtime.block_on(self.client.set_window_size(width, height)).expect("a window");
    }

    /// What a function's body returns.
    ///
    /// # Panics
    /// If it throws.
    pub fn evaluate(&self, script: &str) -> Value {
        let told = self.runtime.block_on(self.client.execute(script, Vec::new()));
        told.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// As [`Self::evaluate`], of a promise.
    ///
    /// # Panics
    /// If it throws.
    pub fn evaluate_later(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async () => {{ {script} }})().then(done, (error) => done({{ failed: String(error) }}))"
        );
        let told = self.runtime.block_on(self.client.execute_async(&script, Vec::new()));
        told.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Text of the first element, if it is there and shown.
    pub fn text_of(&self, selector: &str) -> Option<String> {
        self.runtime.block_on(async {
            let element = self.client.find(Locator::Css(selector)).await.ok()?;
            let shown = element.is_displayed().await.ok()?;
            if shown { element.text().await.ok() } else { None }
        })
    }

    /// # Panics
    /// If the element never says it.
    pub fn wait_for_text(&self, selector: &str, text: &str) {
        self.wait_within(SOON, selector, text);
    }

    /// # Panics
    /// As [`Self::wait_for_text`].
    pub fn wait_within(&self, within: Duration, selector: &str, text: &str) {
        wait_for(&format!("`{text}` in {selector}"), within, || self.text_of(selector)?.contains(text).then_some(()));
    }

    /// # Panics
    /// If it never can be clicked.
    pub fn click(&self, selector: &str) {
        wait_for(&format!("a click on {selector}"), SOON, || {
            self.runtime.block_on(async {
                let element = self.client.find(Locator::Css(selector)).await.ok()?;
                element.click().await.ok()
            })
        });
    }

    /// # Panics
    /// If there is no such field.
    pub fn type_into(&self, selector: &str, text: &str) {
        wait_for(&format!("a field {selector}"), SOON, || {
            self.runtime.block_on(async {
                let element = self.client.find(Locator::Css(selector)).await.ok()?;
                element.send_keys(text).await.ok()
            })
        });
    }

    /// Opens another tab and goes to it.
    ///
    /// # Panics
    /// If the driver refuses.
    pub fn new_tab(&self, url: &str) {
        self.runtime.block_on(async {
            let tab = self.client.new_window(true).await.expect("a tab");
            self.client.switch_to_window(tab.handle).await.expect("the tab");
        });
        self.open(url);
    }

    /// Goes to the tab that was opened as this one, from zero.
    ///
    /// # Panics
    /// If there is none.
    pub fn switch_to(&self, tab: usize) {
        self.runtime.block_on(async {
            let tabs = self.client.windows().await.expect("tabs");
            self.client.switch_to_window(tabs[tab].clone()).await.expect("the tab");
        });
    }

    /// # Panics
    /// If it cannot be written.
    pub fn screenshot(&self, file: &Path) {
        let picture = self.runtime.block_on(self.client.screenshot()).expect("a picture");
        std::fs::create_dir_all(file.parent().expect("in a folder")).expect("a writable folder");
        std::fs::write(file, picture).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.client.clone().close());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
