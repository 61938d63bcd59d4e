//! Client libraries for event streams, each used as its documentation shows. What they show is what happened.
//!
//! `tests/clients` has the programs, and `tests/install` installs the libraries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::deployment::{Deployment, Store};
use harness::instance::Settings;
use harness::process::{Process, Signal};
use harness::sse::Stream;
use harness::wait::PATIENCE;
use reqwest::header::ACCEPT_ENCODING;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::browser::{Browser, Page};

const IN_NODE: &str = include_str!("../../clients/watch.mjs");
const IN_A_PAGE: &str = include_str!("../../clients/watch-page.mjs");
const COMPRESSING_PROXY: &str = include_str!("../../clients/compressing-proxy.mjs");
const IN_PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/watch.py");

const NODE_LIBRARIES: [&str; 3] = ["eventsource", "eventsource-3", "eventsource-client"];
const PYTHON_LIBRARIES: [&str; 3] = ["httpx-sse", "sseclient-py", "requests"];

/// All libraries, including four in the page.
const LIBRARIES: usize = NODE_LIBRARIES.len() + PYTHON_LIBRARIES.len() + 4;

/// The time between two checks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// By then each stream has had a keep-alive.
const SILENCE: Duration = Duration::from_millis(15_500);

/// A user id that wrong encodings would show differently.
const USER: &str = "名前✅é";

/// One message as a library shows it.
#[derive(Clone, Debug, Deserialize)]
struct Shown {
    event: String,
    data: Value,
}

impl Shown {
    /// `online alice` for a change, and `None` for other messages.
    fn change(&self) -> Option<String> {
        let change = self.event.strip_prefix("user.")?;
        let user = self.data["userId"].as_str()?;
        Some(format!("{change} {user}"))
    }
}

/// A library in its own process, and its output so far.
struct Library {
    name: &'static str,
    process: Process,
    shown: Vec<Shown>,
}

impl Library {
    fn start(name: &'static str, command: &mut Command, url: &str) -> Self {
        command.args([name, url]);
        Self {
            name,
            process: Process::spawn(name, command),
            shown: Vec::new(),
        }
    }

    fn read(&mut self) -> &[Shown] {
        for line in self.process.lines_so_far() {
            let shown = serde_json::from_str(&line);
            self.shown
                .push(shown.unwrap_or_else(|error| panic!("{}: {error}: {line}", self.name)));
        }
        let ended = self.process.has_ended();
        assert!(!ended, "{} ended:\n{}", self.name, self.process.log());
        &self.shown
    }
}

/// All libraries, in processes and in a page of a browser.
struct Libraries {
    processes: Vec<Library>,
    browser: Browser,
}

impl Libraries {
    async fn start(page: &Page, url: &str) -> Self {
        let mut processes = Vec::new();
        for name in NODE_LIBRARIES {
            processes.push(Library::start(name, &mut node(IN_NODE), url));
        }
        for name in PYTHON_LIBRARIES {
            let mut command = Command::new(installed("clients-python/bin/python"));
            command.env("PYTHONIOENCODING", "utf-8").arg(IN_PYTHON);
            processes.push(Library::start(name, &mut command, url));
        }
        let browser = Browser::start().await;
        browser.open(page.origin()).await;
        let script = serde_json::to_string(&IN_A_PAGE.replace("STREAM", &format!("'{url}'")));
        let script = script.expect("text");
        browser
            .run(&format!(
                "const script = document.createElement('script');
                 script.type = 'module';
                 script.textContent = {script};
                 document.head.append(script);"
            ))
            .await;
        Self { processes, browser }
    }

    /// The messages of each library so far.
    async fn shown(&mut self) -> Vec<(String, Vec<Shown>)> {
        let failures = self.browser.run("return window.failures ?? []").await;
        assert_eq!(failures, Value::Array(Vec::new()), "thrown in the page");
        let in_page = self.browser.run("return window.shown ?? {}").await;
        let in_page: std::collections::BTreeMap<String, Vec<Shown>> =
            serde_json::from_value(in_page).expect("the record of the page");
        let mut shown: Vec<_> = in_page.into_iter().collect();
        for library in &mut self.processes {
            let name = library.name.to_owned();
            shown.push((name, library.read().to_vec()));
        }
        shown
    }

    /// Waits until `wanted` is true for each library.
    async fn each(&mut self, what: &str, wanted: impl Fn(&[Shown]) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown().await;
            let waiting = shown.iter().filter(|(_, shown)| !wanted(shown));
            let waiting: Vec<_> = waiting.collect();
            if shown.len() == LIBRARIES && waiting.is_empty() {
                return;
            }
            let heard = shown.len();
            assert!(
                Instant::now() < give_up,
                "{what}: of {heard} not {waiting:#?}"
            );
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn each_shows(&mut self, change: &str) {
        let what = format!("each library shows {change}");
        self.each(&what, |shown| {
            shown
                .iter()
                .any(|each| each.change().as_deref() == Some(change))
        })
        .await;
    }
}

/// A file that `tests/install` installed in the target folder.
pub(crate) fn installed(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let path = target.expect("the target folder").join("tools").join(path);
    assert!(
        path.exists(),
        "{} is missing; run tests/install",
        path.display()
    );
    path
}

/// Node.js with a program that can import the installed libraries.
fn node(program: &str) -> Command {
    let mut command = Command::new("node");
    command.current_dir(installed("clients-node"));
    command.args(["--input-type=module", "--eval", program, "--"]);
    command
}

#[tokio::test]
async fn every_library_shows_each_event_once_and_in_order_across_restarts() {
    let page = Page::with_files_of(&installed("clients-node/node_modules")).await;
    let settings = Settings::new()
        .with("PRESENCE_CORS_ORIGINS", page.origin())
        .with("PRESENCE_DRAIN", "1s");
    let mut deployment = Deployment::of(1, settings).await;
    let url = format!("{}/v1/events?snapshot=true", deployment.client().base());
    let mut libraries = Libraries::start(&page, &url).await;
    let begun = |shown: &[Shown]| shown.iter().any(|each| each.event == "presence.ready");
    libraries.each("each library begins", begun).await;
    let since = Instant::now();

    deployment.client().connect("alice").await;
    libraries.each_shows("online alice").await;
    sleep_until(since + SILENCE).await;
    deployment.client().disconnect("alice").await;
    libraries.each_shows("offline alice").await;

    deployment.instances[0].send(Signal::Terminate);
    deployment.instances[0].exit().await;
    deployment.replace(0).await;
    deployment.client().connect(USER).await;
    libraries.each_shows(&format!("online {USER}")).await;

    deployment.instances[0].kill();
    deployment.replace(0).await;
    deployment.client().disconnect(USER).await;
    libraries.each_shows(&format!("offline {USER}")).await;

    let expected = [
        "online alice".to_owned(),
        "offline alice".to_owned(),
        format!("online {USER}"),
        format!("offline {USER}"),
    ];
    for (name, shown) in libraries.shown().await {
        let changes: Vec<_> = shown.iter().filter_map(Shown::change).collect();
        assert_eq!(changes, expected, "{name}: {shown:?}");
        let resets = shown.iter().filter(|each| each.event == "presence.reset");
        assert_eq!(resets.count(), 0, "{name}: {shown:?}");
    }
    libraries.browser.quit().await;
}

#[tokio::test]
async fn a_compressing_proxy_delays_no_event() {
    let settings = Settings::new().with("PRESENCE_ALLOW_ANONYMOUS", "true");
    let deployment = Deployment::with(Store::Embedded, settings).await;
    let direct = deployment.client();
    let mut command = node(COMPRESSING_PROXY);
    let mut proxy = Process::spawn("Express", command.arg(direct.base()));
    let address = proxy.line().await.expect("an address");
    let proxied = harness::client::Client::new(&address);

    let page = proxied.request(reqwest::Method::GET, "/openapi.json");
    let page = page.header(ACCEPT_ENCODING, "gzip").send().await;
    let encoding = page.expect("an answer").headers()["content-encoding"].clone();
    assert_eq!(encoding, "gzip", "the proxy compresses JSON");

    let request = Stream::request(&proxied, "?snapshot=true");
    let mut stream = Stream::send(request.header(ACCEPT_ENCODING, "gzip")).await;
    assert!(stream.snapshot().await.is_empty());
    direct.connect("alice").await;
    assert_eq!(stream.next().await.brief(), "online alice");
}
