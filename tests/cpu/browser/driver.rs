//! A browser without a window, driven over the WebDriver protocol (<https://www.w3.org/TR/webdriver2/>) by chromedriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::blocking::{Client, RequestBuilder};
use serde_json::{Value, json};

/// The key that a reference to an element has.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser of its own, without a past, ended when it is dropped.
pub struct Browser {
    driver: Child,
    session: String,
    client: Client,
}

/// The body of an answer, whatever its status.
fn answer(request: RequestBuilder) -> String {
    request.send().unwrap().text().unwrap()
}

/// The browser, or None with a word on stderr where there is none on this machine.
pub fn browser() -> Option<Browser> {
    Browser::start().inspect_err(|why| eprintln!("skipped: {why} (apt-get install chromium chromium-driver)")).ok()
}

impl Browser {
    fn start() -> Result<Self, String> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().map_err(|error| format!("no chromedriver here: {error}"))?;
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said = lines.find(|line| line.contains("started successfully on port"));
        let port = said.and_then(|said| said.trim_end_matches('.').rsplit(' ').next()?.parse::<u16>().ok());
        let port = port.ok_or("chromedriver does not start")?;
        // A client wants one even where no address is https.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(120)).build();
        let client = client.map_err(|error| error.to_string())?;
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{port}/session"), client };
        let args =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1440,900"];
        let options = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" }
        });
        let answer = browser.send("", json!({ "capabilities": { "alwaysMatch": options } }));
        let answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        let id = answer["value"]["sessionId"].as_str();
        let id = id.ok_or_else(|| format!("chromedriver finds no browser: {}", answer["value"]["message"]))?;
        browser.session += &format!("/{id}");
        Ok(browser)
    }

    fn send(&self, path: &str, body: Value) -> String {
        let request = self.client.post(format!("{}{path}", self.session));
        answer(request.header("Content-Type", "application/json").body(body.to_string()))
    }

    fn post(&self, path: &str, body: Value) -> Value {
        value(&self.send(path, body))
    }

    fn get(&self, path: &str) -> Value {
        value(&answer(self.client.get(format!("{}{path}", self.session))))
    }

    pub fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    /// A window so wide, as on a phone or a desk, light or dark.
    pub fn look(&self, width: u32, dark: bool) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = json!([{ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": scheme }));
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// What a script passes to its last argument, in its own time.
    pub fn run_async(&self, script: &str) -> Value {
        self.post("/execute/async", json!({ "script": script, "args": [] }))
    }

    pub fn text(&self, script: &str) -> String {
        self.run(&format!("return String({script})")).as_str().unwrap().to_string()
    }

    /// Waits until the expression is true.
    #[track_caller]
    pub fn wait(&self, expression: &str) {
        let start = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != true {
            assert!(start.elapsed() < Duration::from_secs(60), "waited for {expression}");
            std::thread::sleep(Duration::from_millis(40));
        }
    }

    /// Clicks as a hand does: what lies above the element would be hit instead, and that is an error.
    pub fn click(&self, selector: &str) {
        let found = self.post("/element", json!({ "using": "css selector", "value": selector }));
        let element = found[ELEMENT].as_str().unwrap_or_else(|| panic!("no {selector}"));
        self.post(&format!("/element/{element}/click"), json!({}));
    }

    /// Presses keys one after the other; names as in the table below, else single letters.
    pub fn press(&self, keys: &[&str]) {
        let code = |key: &str| {
            match key {
                "Tab" => "\u{e004}",
                "Enter" => "\u{e007}",
                "Escape" => "\u{e00c}",
                "Left" => "\u{e012}",
                "Up" => "\u{e013}",
                "Right" => "\u{e014}",
                "Down" => "\u{e015}",
                other => other,
            }
            .to_string()
        };
        let strokes: Vec<Value> = keys
            .iter()
            .map(|key| code(key))
            .flat_map(|key| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })])
            .collect();
        self.post("/actions", json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes }] }));
    }

    /// The window as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(self.get("/screenshot").as_str().unwrap()).unwrap()
    }

    /// What the console was told since the last time, warnings and errors alone.
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({ "type": "browser" }));
        let entries = entries.as_array().unwrap().iter();
        let bad = entries.filter(|entry| ["SEVERE", "WARNING"].contains(&entry["level"].as_str().unwrap_or_default()));
        bad.map(|entry| entry["message"].as_str().unwrap_or_default().to_string()).collect()
    }
}

fn value(text: &str) -> Value {
    let answer: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let value = &answer["value"];
    assert!(value["error"].is_null(), "{}: {}", value["error"], value["message"]);
    value.clone()
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.client.delete(&self.session).send();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
