//! The TypeScript client of `clients/typescript`: its own tests, the package that would be published, and the client
//! in Node and in Chromium against the service.

mod features;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::client::{User, send};
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::process::{Process, Signal};
use harness::proxy::Proxy;
use harness::serial::run_beside_others;
use harness::sse::Stream;
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::browser::{Browser, Page};
use super::guides::{KEY, blocks, settings, token_for};
use super::libraries::installed;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/typescript");
const IN_NODE: &str = include_str!("../../clients/presence-client.mjs");

/// How long the client waits for a byte of its stream. The service writes every 15 s.
const SILENCE_MS: u32 = 17_000;

/// A short TTL.
fn brisk() -> Settings {
    settings()
        .with("PRESENCE_TTL", "6s")
        .with("PRESENCE_PING_INTERVAL", "1s")
}

/// Runs a command in `folder` to its end. It must succeed.
async fn run(folder: &Path, program: &str, arguments: &[&str]) {
    run_beside_others();
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("no panic").expect(program);
    let shown = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}:\n{shown}\n{log}"
    );
}

/// The folder with the package, beside the tools that `tests/install` installed. It is built once.
async fn built() -> &'static Path {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async || {
        let folder = installed("typescript-node");
        let target = folder.to_str().expect("a path in UTF-8");
        let parts = [
            "LICENSE",
            "README.md",
            "build.mjs",
            "check.mjs",
            "package.json",
            "src",
            "test",
            "tsconfig.json",
        ];
        let copy = [&["-R"][..], &parts, &[target]].concat();
        for changing in ["src", "test"] {
            // Files that were removed from the repository.
            let _ = std::fs::remove_dir_all(folder.join(changing));
        }
        run(Path::new(SOURCE), "cp", &copy).await;
        run(&folder, "node", &["build.mjs"]).await;
        folder
    };
    BUILT.get_or_init(build).await
}

#[tokio::test]
async fn the_package_is_small_and_complete() {
    let package = include_str!("../../../clients/typescript/package.json");
    let package: Value = serde_json::from_str(package).expect("JSON");
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
    run(built().await, "node", &["check.mjs"]).await;
}

#[tokio::test]
async fn the_tests_of_the_client_pass() {
    run(built().await, "node", &["--test", "test/"]).await;
}

#[tokio::test]
async fn the_programs_of_the_guide_compile() {
    let folder = built().await.join("guide");
    std::fs::create_dir_all(&folder).expect("a folder");
    let guide = include_str!("../../../docs/typescript.md");
    let mut files = Vec::new();
    for (number, block) in blocks(guide).enumerate() {
        let file = format!("block-{number}.{}", block.language);
        std::fs::write(folder.join(&file), block.code).expect("a file");
        files.push(file);
    }
    let options = ["--noEmit", "--strict", "--jsx", "react-jsx"];
    let platform = ["--target", "es2022", "--lib", "es2022,dom"];
    // The package is found by its name, as in an application.
    let modules = ["--module", "nodenext"];
    let files = files.iter().map(String::as_str);
    let tsc = ["../node_modules/typescript/bin/tsc"].into_iter();
    let arguments = tsc.chain(options).chain(platform).chain(modules);
    let arguments: Vec<_> = arguments.chain(files).collect();
    run(&folder, "node", &arguments).await;
}

/// The service, through a proxy.
struct Scene {
    deployment: Deployment,
    proxy: Proxy,
}

impl Scene {
    async fn start(settings: Settings) -> Self {
        let deployment = Deployment::of(1, settings).await;
        let proxy = Proxy::to(deployment.instances[0].address().port()).await;
        Self { deployment, proxy }
    }

    /// The address of the proxy.
    fn url(&self) -> String {
        self.proxy.url().replace("redis:", "http:")
    }

    async fn replace(&mut self) {
        self.deployment.replace(0).await;
        let port = self.deployment.instances[0].address().port();
        self.proxy.lead_to(port);
    }

    async fn connect(&self, user: &str) {
        let request = self.deployment.client().of_user(user, "connect");
        assert_eq!(send(request.bearer_auth(KEY)).await.status, 200);
    }

    async fn user(&self, user: &str) -> User {
        let client = self.deployment.client();
        let request = client.request(Method::GET, &format!("/v1/users/{user}"));
        send(request.bearer_auth(KEY)).await.ok()
    }

    /// Opens a stream of `user`.
    async fn stream(&self, user: &str) -> Stream {
        let client = self.deployment.client();
        let request = Stream::request(&client, &format!("?userIds={user}"));
        Stream::send(request.bearer_auth(KEY)).await
    }

    /// Starts the client of `alice` in Node, which watches `bob` and `carol`.
    async fn node(&self, tokens: &[String]) -> Watcher {
        let options = json!({ "userId": "alice", "tokens": tokens, "silenceMs": SILENCE_MS });
        let list = json!({ "userIds": ["bob", "carol"] });
        self.client(options, &list).await
    }

    /// Starts the client in Node with these options, which watches `list`.
    async fn client(&self, mut options: Value, list: &Value) -> Watcher {
        options["url"] = self.url().into();
        let module = built().await.join("dist/index.js");
        let mut command = Command::new("node");
        command.args(["--input-type=module", "--eval", IN_NODE, "--"]);
        command.arg(module).arg(options.to_string());
        let process = Process::spawn("client", command.arg(list.to_string()));
        Watcher {
            process,
            shown: Vec::new(),
        }
    }
}

/// The client in Node, and what it has shown.
struct Watcher {
    process: Process,
    shown: Vec<String>,
}

impl Watcher {
    /// Waits until the client shows `line`.
    async fn shows(&mut self, line: &str) {
        loop {
            let next = self.process.line().await.expect("a line");
            self.shown.push(next);
            if self.shown.last().is_some_and(|last| last == line) {
                return;
            }
        }
    }
}

fn tokens(seconds: &[i64]) -> Vec<String> {
    let watch = json!(["bob", "carol"]);
    let tokens = seconds.iter();
    let tokens = tokens.map(|seconds| token_for("alice", &watch, *seconds));
    tokens.collect()
}

#[tokio::test]
async fn in_node_the_client_survives_restarts_cut_connections_and_expired_tokens() {
    let mut scene = Scene::start(brisk()).await;
    let mut alice = scene.stream("alice").await;
    // The first token is refused, and the second one ends its stream.
    let mut node = scene.node(&tokens(&[-10, 4, 600])).await;
    node.shows("connected").await;
    assert_eq!(alice.next().await.brief(), "online alice");
    let before = scene.user("alice").await;
    scene.connect("bob").await;
    node.shows("live bob").await;

    scene.proxy.cut_all();
    node.shows("lost bob").await;
    node.shows("live bob").await;
    scene.deployment.instances[0].kill();
    node.shows("lost bob").await;
    scene.replace().await;
    scene.connect("bob").await;
    scene.connect("carol").await;
    node.shows("live bob carol").await;
    // These two users do not ping.
    node.shows("live").await;

    let after = scene.user("alice").await;
    assert!(after.online);
    assert_eq!(after.connection_ids(), before.connection_ids());
    let mut alice = scene.stream("alice").await;
    node.process.send(Signal::Interrupt);
    let event = alice.next().await;
    assert_eq!(event.brief(), "offline alice");
    assert_eq!(event.json()["reason"], "disconnected");
    assert!(node.process.exit().await.success());
}

#[tokio::test]
async fn in_node_the_client_leaves_a_stream_that_a_proxy_has_lost() {
    let scene = Scene::start(settings()).await;
    let mut node = scene.node(&tokens(&[600])).await;
    node.shows("live").await;
    scene.proxy.lose_open_connections();
    scene.connect("bob").await;
    node.shows("lost").await;
    node.shows("live bob").await;
    node.process.send(Signal::Interrupt);
    assert!(node.process.exit().await.success());
}

/// A script that makes the client of `alice`, which watches `bob` and `carol`.
fn script(url: &str, tokens: &[String]) -> String {
    let options = json!({ "url": url, "userId": "alice" });
    let tokens = json!(tokens);
    format!(
        "window.shown = [];
         window.ready = import('/index.js').then(async ({{ createPresence }}) => {{
             const tokens = {tokens};
             const token = () => (tokens.length > 1 ? tokens.shift() : tokens[0]);
             window.presence = createPresence({{ ...{options}, token }});
             presence.watch({{ userIds: ['bob', 'carol'] }}, ({{ online, live }}) =>
                 shown.push([live ? 'live' : 'lost', ...[...online].sort()].join(' ')));
             await presence.connect();
         }});"
    )
}

async fn shows(browser: &Browser, line: &str) {
    eventually_true(line, async || {
        browser.run("return window.shown?.at(-1)").await == line
    })
    .await;
}

#[tokio::test]
async fn in_chromium_a_page_of_another_origin_survives_a_restart() {
    let page = Page::with_files_of(&built().await.join("dist")).await;
    let settings = brisk().with("PRESENCE_CORS_ORIGINS", page.origin());
    let mut scene = Scene::start(settings).await;
    let browser = Browser::start().await;
    browser.open(page.origin()).await;
    browser
        .run(&script(&scene.url(), &tokens(&[-10, 4, 600])))
        .await;
    shows(&browser, "live").await;
    scene.connect("bob").await;
    shows(&browser, "live bob").await;
    let before = scene.user("alice").await;
    scene.deployment.instances[0].kill();
    shows(&browser, "lost bob").await;
    scene.replace().await;
    scene.connect("bob").await;
    scene.connect("carol").await;
    shows(&browser, "live bob carol").await;
    let after = scene.user("alice").await;
    assert_eq!(after.connection_ids(), before.connection_ids());
    browser
        .run("window.presence.disconnect().then(() => shown.push('gone'))")
        .await;
    shows(&browser, "gone").await;
    assert!(!scene.user("alice").await.online);
    browser.quit().await;
}
