//! The demo of `make demo`: simulated users, whom the dashboard of the service shows.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::client::Client;
use harness::instance::binary;
use harness::process::{Process, Signal};
use harness::sse::Stream;
use harness::wait::eventually_true;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::clients::browser::Browser;

/// The demo. Cargo builds examples before all tests, but not before the tests of one target.
fn demo() -> Command {
    let built = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--locked", "--quiet", "--example", "demo"])
        .status();
    assert!(built.expect("cargo").success());
    let folder = binary();
    let folder = folder.parent().expect("a folder").join("examples");
    let mut command = Command::new(folder.join("demo"));
    command.env_remove("REDIS_URL");
    command.env("PRESENCE_LISTEN", "127.0.0.1:0");
    command
}

/// How many seconds the line charts of the picture have at least.
const PICTURED_SECONDS: u64 = 90;

/// Writes what the dashboard shows to `dashboard.png` in `folder`.
async fn picture_the_dashboard(client: &Client, folder: &Path) {
    let browser = Browser::start().await;
    let screen =
        json!({ "width": 1_280, "height": 1_000, "deviceScaleFactor": 1, "mobile": false });
    browser
        .command("Emulation.setDeviceMetricsOverride", &screen)
        .await;
    browser.open(&format!("{}/dashboard", client.base())).await;
    let waited = format!("return performance.now() > {PICTURED_SECONDS}_000");
    while browser.run(&waited).await != true {
        sleep(Duration::from_secs(1)).await;
    }
    browser
        .run("document.querySelector('#group').value = 'doc-1'")
        .await;
    browser.press("#ask-group button").await;
    browser.press("#members button").await;
    eventually_true("a user is explained", async || {
        browser.text("#explained").await.contains("Last minutes")
    })
    .await;
    browser.run("scrollTo(0, 0)").await;
    let shown = json!({ "format": "png", "captureBeyondViewport": false });
    let shown = browser.command("Page.captureScreenshot", &shown).await;
    let image = STANDARD.decode(shown["data"].as_str().expect("an image"));
    let path = folder.join("dashboard.png");
    std::fs::write(path, image.expect("base64")).expect("the folder exists");
    browser.quit().await;
}

#[tokio::test]
async fn the_demo_shows_users_that_come_and_go_until_it_is_interrupted() {
    let mut demo = Process::spawn("demo", &mut demo());
    let line = demo.line().await.expect("a line with the address");
    let url = line.split_once("http://").expect("an address").1;
    let url = url.strip_suffix("/dashboard").expect("the dashboard");
    let client = Client::new(&format!("http://{url}"));
    let mut stream = Stream::open(&client, "").await;
    assert_eq!(client.get("/dashboard").await.status, 200);
    let mut missing: BTreeSet<&str> = ["user.online", "user.updated", "user.offline"].into();
    while !missing.is_empty() {
        missing.remove(&*stream.next().await.name);
    }
    eventually_true("users have states", async || {
        let users = client.everyone().await;
        if users.is_empty() {
            return false;
        }
        let query = json!({"userIds": users, "states": true});
        let answer: Value = client.post("/v1/online", &query).await.ok();
        let states = answer["states"].as_object();
        states.is_some_and(|states| states.len() > 10)
    })
    .await;
    eventually_true("a document has readers", async || {
        let group: Value = client.get("/v1/groups/doc-1").await.ok();
        group["online"]
            .as_array()
            .is_some_and(|online| !online.is_empty())
    })
    .await;
    let team: Value = client.get("/v1/groups/team-1/count").await.ok();
    assert_eq!(team["members"], 25);
    let mut readers = Stream::open(&client, "?groupIds=doc-1").await;
    let mut missing: BTreeSet<&str> = ["group.joined", "group.left"].into();
    while !missing.is_empty() {
        missing.remove(&*readers.next().await.name);
    }
    if let Some(folder) = env::var_os("SCREENSHOTS") {
        picture_the_dashboard(&client, Path::new(&folder)).await;
    }
    demo.send(Signal::Interrupt);
    assert!(demo.exit().await.success(), "{}", demo.log());
}
