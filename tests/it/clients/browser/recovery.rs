//! `EventSource` of a browser reconnects after every failure, and no event is lost or repeated.
//!
//! The page has another origin than the service, so that every answer needs the right CORS headers.

use std::collections::BTreeMap;

use harness::client::try_send;
use harness::deployment::{Deployment, Store};
use harness::instance::Settings;
use harness::process::Signal;
use harness::sse::Stream;
use harness::wait::eventually_true;
use serde::Deserialize;

use super::{Browser, Page};
use crate::failures::scene::all_ready;
use crate::ops::proxies::{Front, Kind};

/// Opens streams by name and records their events.
const WATCH: &str = "
    window.streams = {};
    window.watch = (name, url) => {
        const seen = streams[name] = { opened: 0, gaveUp: false, said: [], ends: [] };
        const source = new EventSource(url);
        source.onopen = () => seen.opened++;
        source.onerror = () => seen.gaveUp ||= source.readyState === EventSource.CLOSED;
        for (const change of ['online', 'offline'])
            source.addEventListener('user.' + change, event =>
                seen.said.push(change + ' ' + JSON.parse(event.data).userId));
        for (const word of ['snapshot', 'ready', 'reset'])
            source.addEventListener('presence.' + word, event => {
                JSON.parse(event.data);
                seen.said.push(word);
            });
        source.addEventListener('presence.end', event =>
            seen.ends.push(JSON.parse(event.data).reason));
    };
";

/// The record of one stream.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Watched {
    opened: u32,
    gave_up: bool,
    said: Vec<String>,
    ends: Vec<String>,
}

impl Watched {
    /// The changes of users, without messages about the stream.
    fn changes(&self) -> Vec<&str> {
        let said = self.said.iter().map(String::as_str);
        said.filter(|word| word.contains(' ')).collect()
    }
}

/// A page in a browser that opens streams.
struct Watcher {
    browser: Browser,
    page: Page,
}

impl Watcher {
    async fn start() -> Self {
        let page = Page::empty().await;
        let browser = Browser::start().await;
        browser.open(page.origin()).await;
        browser.run(WATCH).await;
        Self { browser, page }
    }

    async fn watch(&self, name: &str, url: &str) {
        self.browser.run(&format!("watch('{name}', '{url}')")).await;
    }

    async fn streams(&self) -> BTreeMap<String, Watched> {
        let streams = self.browser.run("return streams").await;
        serde_json::from_value(streams).expect("the record of the page")
    }

    /// Waits until `holds` is true for each stream.
    async fn each(&self, what: &str, holds: impl Fn(&Watched) -> bool) {
        let mut streams = self.streams().await;
        let waited = eventually_true(what, async || {
            streams = self.streams().await;
            let gave_up = streams.values().any(|stream| stream.gave_up);
            gave_up || streams.values().all(&holds)
        });
        let waited = std::panic::AssertUnwindSafe(waited);
        let waited = futures_util::FutureExt::catch_unwind(waited).await;
        assert!(waited.is_ok(), "{what}: {streams:#?}");
        for (name, stream) in &streams {
            assert!(!stream.gave_up, "{name} gave up: {stream:?}");
        }
    }

    /// Waits until `word` is the newest entry of each stream.
    async fn each_says(&self, word: &str) {
        self.each(word, |stream| {
            stream.said.last().is_some_and(|last| last == word)
        })
        .await;
    }
}

#[tokio::test]
async fn a_browser_waits_for_the_store() {
    let watcher = Watcher::start().await;
    let settings = Settings::new().with("PRESENCE_CORS_ORIGINS", watcher.page.origin());
    let mut deployment = Deployment::on_one_server(1, settings).await;
    let url = format!("{}/v1/events?snapshot=true", deployment.client().base());
    watcher.watch("before", &url).await;
    watcher.each_says("ready").await;
    deployment.redis_mut().kill();
    let client = deployment.client();
    eventually_true("the service knows", async || {
        client.get("/readyz").await.status == 503
    })
    .await;
    // A page that is opened or reloaded during the outage.
    watcher.watch("meanwhile", &url).await;
    watcher
        .each("the stream reports the cause", |stream| {
            stream.said.contains(&"ready".to_owned())
                || stream.ends.contains(&"store-unreachable".to_owned())
        })
        .await;
    deployment.redis_mut().start_again().await;
    all_ready(std::slice::from_ref(&client)).await;
    watcher
        .each("a snapshot comes", |stream| {
            stream.said.iter().rev().take(2).eq(["ready", "snapshot"])
        })
        .await;
    client.connect("alice").await;
    watcher.each_says("online alice").await;
    watcher.browser.quit().await;
}

#[tokio::test]
async fn a_browser_reconnects_after_too_many_streams() {
    let watcher = Watcher::start().await;
    let settings = Settings::new()
        .with("PRESENCE_CORS_ORIGINS", watcher.page.origin())
        .with("PRESENCE_STREAMS", "2");
    let deployment = Deployment::with(Store::Embedded, settings).await;
    let client = deployment.client();
    let places = [
        Stream::open(&client, "").await,
        Stream::open(&client, "").await,
    ];
    let url = format!("{}/v1/events?snapshot=true", client.base());
    watcher.watch("one", &url).await;
    watcher
        .each("the stream reports the cause", |stream| {
            stream.ends.contains(&"too-many-streams".to_owned())
        })
        .await;
    drop(places);
    watcher.each_says("ready").await;
    client.connect("alice").await;
    watcher.each_says("online alice").await;
    watcher.browser.quit().await;
}

/// Waits until calls pass the proxy. With TLS, only the log is checked.
async fn passes_calls_again(front: &mut Front) {
    if front.kind == Kind::NginxTls {
        let log = front.log();
        assert!(log.contains("/v1/events HTTP/2.0"), "{log}");
        return;
    }
    let client = front.client();
    eventually_true("calls pass again", async || {
        let pinged = try_send(client.of_user("gone", "ping")).await;
        pinged.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

/// Instances are drained, killed, and absent for a while, behind all proxies at once.
#[tokio::test]
async fn behind_each_proxy_a_browser_recovers_from_every_restart() {
    let watcher = Watcher::start().await;
    let settings =
        crate::ops::proxies::settings().with("PRESENCE_CORS_ORIGINS", watcher.page.origin());
    let mut deployment = Deployment::of(2, settings).await;
    let mut fronts = Vec::new();
    for kind in [Kind::Nginx, Kind::NginxTls, Kind::Haproxy, Kind::Caddy] {
        let front = Front::start(kind, &deployment).await;
        let url = format!("{}/v1/events?snapshot=true", front.base());
        watcher.watch(&format!("{kind:?}"), &url).await;
        fronts.push(front);
    }
    watcher.each_says("ready").await;
    let clients = deployment.clients();

    deployment.instances[0].send(Signal::Terminate);
    clients[1].connect("drained").await;
    watcher
        .each("drained", |stream| {
            stream.changes().contains(&"online drained")
        })
        .await;
    deployment.instances[0].exit().await;
    deployment.replace(0).await;

    deployment.instances[1].kill();
    clients[0].connect("killed").await;
    watcher
        .each("killed", |stream| {
            stream.changes().contains(&"online killed")
        })
        .await;

    // This is the only instance that runs.
    deployment.instances[0].kill();
    watcher
        .each("the proxy answers with a short stream", |stream| {
            stream.ends.contains(&"overloaded".to_owned())
        })
        .await;
    deployment.replace(0).await;
    deployment.replace(1).await;
    clients[0].connect("gone").await;
    watcher
        .each("gone", |stream| stream.changes().contains(&"online gone"))
        .await;
    for (name, stream) in watcher.streams().await {
        let expected = ["online drained", "online killed", "online gone"];
        assert_eq!(stream.changes(), expected, "{name}: {stream:?}");
        assert!(
            !stream.said.contains(&"reset".to_owned()),
            "{name}: {stream:?}"
        );
        assert!(stream.opened > 2, "{name}: {stream:?}");
    }
    for front in &mut fronts {
        passes_calls_again(front).await;
    }
    watcher.browser.quit().await;
}
