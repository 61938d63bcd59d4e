//! Chromium with `EventSource` and `sendBeacon` on a page of the service, and Swagger UI.

mod docs;
mod page;
mod recovery;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use harness::client::{Client, send, try_send};
use harness::deployment::{Deployment, Store};
use harness::process::Process;
use harness::redis_server::free_port;
use harness::wait::{eventually, eventually_within};
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) use page::Page;

/// No window, and no requests of Chromium itself.
const FLAGS: [&str; 8] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// How long a command may take, and how long a page may take to show something. A large page, such as Swagger UI,
/// needs many seconds of a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Chromium that is controlled over the WebDriver protocol (W3C).
pub(crate) struct Browser {
    driver: Client,
    session: String,
    profile: PathBuf,
    /// The process of the browser, which survives the end of the driver; `None` after [`Browser::quit`].
    browser: Option<u64>,
    _process: Process,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let process = Process::spawn("chromedriver", &mut command);
        let driver = Client::new(&format!("http://127.0.0.1:{port}"));
        eventually("chromedriver is ready", async || {
            let status = try_send(driver.request(Method::GET, "/status"))
                .await
                .ok()?;
            status.body.contains("\"ready\":true").then_some(())
        })
        .await;
        let profile = std::env::temp_dir().join(format!("presence-browser-{port}"));
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}", profile.display()));
        // The certificates of the tests are self-signed.
        let capabilities =
            json!({ "goog:chromeOptions": { "args": flags }, "acceptInsecureCerts": true });
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let request = driver.request(Method::POST, "/session").json(&wanted);
        let answer: Value = send(request.timeout(PATIENCE)).await.ok();
        let session = answer["value"]["sessionId"].as_str();
        let session = session.unwrap_or_else(|| panic!("no session: {answer}"));
        let browser = answer["value"]["capabilities"]["goog:processID"].as_u64();
        Self {
            session: format!("/session/{session}"),
            driver,
            profile,
            browser,
            _process: process,
        }
    }

    pub(crate) async fn open(&self, url: &str) {
        self.tell("/url", &json!({ "url": url })).await;
    }

    pub(crate) async fn run(&self, script: &str) -> Value {
        let script = json!({ "script": script, "args": [] });
        self.tell("/execute/sync", &script).await
    }

    /// Clicks on the element of the CSS selector, once it exists.
    pub(crate) async fn press(&self, selector: &str) {
        let script = format!(
            "const found = document.querySelector('{selector}'); found?.click(); return !!found"
        );
        self.until(&script).await;
    }

    /// Runs the script until it returns `true`.
    pub(crate) async fn until(&self, script: &str) {
        eventually_within(PATIENCE, script, async || {
            (self.run(script).await == true).then_some(())
        })
        .await;
    }

    /// The text of the element of the CSS selector, once it exists.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector('{selector}')?.innerText");
        self.returned(&script).await
    }

    /// The first text that the script returns.
    pub(crate) async fn returned(&self, script: &str) -> String {
        eventually_within(PATIENCE, script, async || {
            self.run(script).await.as_str().map(str::to_owned)
        })
        .await
    }

    /// Opens another window, in which commands then run. Returns both windows, the new one last.
    pub(crate) async fn open_window(&self, url: &str) -> [Value; 2] {
        let current = self.send(Method::GET, "/window", None).await;
        let wanted = json!({ "type": "window" });
        let new = self.tell("/window/new", &wanted).await["handle"].clone();
        self.select_window(&new).await;
        self.open(url).await;
        [current, new]
    }

    /// Runs the next commands in this window.
    pub(crate) async fn select_window(&self, handle: &Value) {
        self.tell("/window", &json!({ "handle": handle })).await;
    }

    /// Closes the window in which commands run. Another window must be selected afterwards.
    pub(crate) async fn close_window(&self) {
        self.send(Method::DELETE, "/window", None).await;
    }

    /// Minimises the window, so that its page is hidden, or shows it again.
    pub(crate) async fn set_window(&self, state: &str) {
        let window = self.command("Browser.getWindowForTarget", &json!({})).await;
        let bounds = json!({ "windowId": window["windowId"], "bounds": { "windowState": state } });
        self.command("Browser.setWindowBounds", &bounds).await;
    }

    /// Shows pages 390 pixels wide, as a phone does.
    pub(crate) async fn be_a_phone(&self) {
        let screen = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
        self.command("Emulation.setDeviceMetricsOverride", &screen)
            .await;
    }

    /// Sends a command of the Chrome DevTools Protocol.
    pub(crate) async fn command(&self, name: &str, parameters: &Value) -> Value {
        let command = json!({ "cmd": name, "params": parameters });
        self.tell("/goog/cdp/execute", &command).await
    }

    async fn tell(&self, what: &str, body: &Value) -> Value {
        self.send(Method::POST, what, Some(body)).await
    }

    /// Sends a command about the session.
    async fn send(&self, method: Method, what: &str, body: Option<&Value>) -> Value {
        let path = format!("{}{what}", self.session);
        let mut request = self.driver.request(method, &path).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer: Value = send(request).await.ok();
        answer["value"].clone()
    }

    pub(crate) async fn quit(mut self) {
        self.send(Method::DELETE, "", None).await;
        self.browser = None;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(id) = self.browser {
            // An error means that the process has ended.
            let _ = Command::new("kill")
                .args(["-KILL", &id.to_string()])
                .status();
        }
        // Files that stay in the temporary folder do no harm.
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

/// The script of the tour in the README, which keeps what it would print.
const WATCH: &str = "
    window.heard = [];
    const stream = new EventSource('/v1/events?snapshot=true');
    for (const name of ['presence.snapshot', 'presence.ready', 'presence.reset', 'user.online', 'user.offline'])
        stream.addEventListener(name, event =>
            heard.push([name, JSON.parse(event.data).userId ?? '', event.lastEventId]));
";

async fn heard(browser: &Browser, count: usize) -> Vec<Vec<String>> {
    eventually("the browser hears of it", async || {
        let heard = browser.run("return window.heard").await;
        let heard: Vec<Vec<String>> = serde_json::from_value(heard).ok()?;
        (heard.len() >= count).then_some(heard)
    })
    .await
}

#[tokio::test]
async fn a_browser_watches_resumes_and_disconnects() {
    let mut deployment = Deployment::start(Store::Redis).await;
    let client = deployment.client();
    let browser = Browser::start().await;
    browser.open(&format!("{}/docs/", client.base())).await;
    let title = browser.text(".info .title").await;
    assert!(title.starts_with("Presence"), "{title}");

    browser.run(WATCH).await;
    heard(&browser, 2).await;
    client.connect("alice").await;
    browser
        .run("navigator.sendBeacon('/v1/users/alice/disconnect')")
        .await;
    let events = heard(&browser, 4).await;
    let names: Vec<_> = events.iter().map(|event| &*event[0]).collect();
    let expected = [
        "presence.snapshot",
        "presence.ready",
        "user.online",
        "user.offline",
    ];
    assert_eq!(names, expected);
    assert!(
        events.iter().all(|event| !event[2].is_empty()),
        "every event has an id"
    );

    // The instance is killed and another one starts at its address. The browser reconnects by itself.
    deployment.instances[0].kill();
    deployment.replace(0).await;
    deployment.client().connect("bob").await;
    let events = heard(&browser, 6).await;
    assert_eq!(events[4][..2], ["user.online", "bob"], "{events:?}");
    assert_eq!(events[5][0], "presence.ready", "caught up: {events:?}");
    assert_eq!(events.len(), 6, "nothing else came: {events:?}");
    browser.quit().await;
}
