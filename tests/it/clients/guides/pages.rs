//! The programs in `docs/pages.md`, in Chromium.

use harness::client::{Client, User, send};
use harness::deployment::{Deployment, Store};
use harness::instance::{Instance, Settings};
use harness::process::Process;
use harness::redis_server::free_port;
use harness::sse::Stream;
use harness::wait::{eventually, eventually_true};
use serde_json::{Value, json};

use super::{KEY, program_in_python, settings, token, token_for};
use crate::clients::browser::{Browser, Page};

/// The page of `examples/`, its back end, and the service.
struct Scene {
    deployment: Deployment,
    browser: Browser,
    page: String,
    _app: Process,
}

impl Scene {
    async fn start() -> Self {
        let port = free_port();
        let page = format!("http://127.0.0.1:{port}");
        let settings = settings()
            .with("PRESENCE_CORS_ORIGINS", &page)
            .with("PRESENCE_TTL", "6s")
            .with("PRESENCE_PING_INTERVAL", "1s");
        let deployment = Deployment::of(1, settings).await;
        let mut app = program_in_python("examples/back-end/app.py", deployment.client().base());
        let mut app = Process::spawn("app.py", app.env("APP_PORT", port.to_string()));
        assert_eq!(app.line().await.as_ref(), Some(&page));
        Self {
            deployment,
            browser: Browser::start().await,
            page,
            _app: app,
        }
    }

    async fn open(&self, user: &str) {
        let url = format!("{}/?user={user}", self.page);
        self.browser.open(&url).await;
    }

    /// Waits until the window `frame`, an expression, lists exactly `users` and no entry is stale.
    async fn lists(&self, frame: &str, users: &[&str]) {
        let script = format!(
            "const list = {frame}.document?.getElementById('users');
             return [list?.style.opacity, [...(list?.children ?? [])].map(item => item.textContent)];"
        );
        let expected = json!(["1", users]);
        let what = format!("the page lists {users:?}");
        eventually_true(&what, async || self.browser.run(&script).await == expected).await;
    }

    async fn user(&self, user: &str) -> User {
        let client = self.deployment.client();
        let path = format!("/v1/users/{user}");
        let request = client.request(reqwest::Method::GET, &path);
        send(request.bearer_auth(KEY)).await.ok()
    }
}

async fn connect(client: &Client, user: &str) {
    let request = client.of_user(user, "connect").bearer_auth(KEY);
    assert_eq!(send(request).await.status, 200);
}

#[tokio::test]
async fn a_page_is_online_sees_others_and_survives_a_restart() {
    let mut scene = Scene::start().await;
    scene.open("alice").await;
    scene.lists("window", &["alice"]).await;
    connect(&scene.deployment.client(), "bob").await;
    scene.lists("window", &["alice", "bob"]).await;
    let before = scene.user("alice").await;

    scene.deployment.instances[0].kill();
    scene.deployment.replace(0).await;
    connect(&scene.deployment.client(), "carol").await;
    scene.lists("window", &["alice", "bob", "carol"]).await;
    // These two users do not ping.
    scene.lists("window", &["alice"]).await;
    let after = scene.user("alice").await;
    assert_eq!(after.connection_ids(), before.connection_ids());
    scene.browser.quit().await;
}

#[tokio::test]
async fn each_load_of_a_page_is_a_connection_that_ends_with_it() {
    let scene = Scene::start().await;
    let client = scene.deployment.client();
    let mut stream = Stream::send(Stream::request(&client, "").bearer_auth(KEY)).await;
    scene.open("alice").await;
    assert_eq!(stream.next().await.brief(), "online alice");
    let first = scene.user("alice").await;
    assert_eq!(first.connections.len(), 1);

    // The page is loaded again: it has a new connection, and the old one is closed.
    scene.open("alice").await;
    eventually_true("the connection is another one", async || {
        let user = scene.user("alice").await;
        let other = user.connection_ids() != first.connection_ids();
        other && user.connections.len() == 1
    })
    .await;

    scene.browser.open("about:blank").await;
    let last = loop {
        // The reload may have caused a departure and an arrival.
        let event = stream.next().await;
        if event.brief() == "offline alice" && !scene.user("alice").await.online {
            break event;
        }
    };
    assert_eq!(last.json()["reason"], "disconnected");
    scene.browser.quit().await;
}

#[tokio::test]
async fn pages_of_a_browser_share_one_stream() {
    let scene = Scene::start().await;
    scene.open("alice").await;
    scene.lists("window", &["alice"]).await;
    let frame = "
        const frame = document.createElement('iframe');
        frame.src = '/?user=bob';
        document.body.append(frame);";
    scene.browser.run(frame).await;
    for window in ["window", "window.frames[0]"] {
        scene.lists(window, &["alice", "bob"]).await;
    }
    let request = scene.deployment.client();
    let request = request.request(reqwest::Method::GET, "/metrics");
    let metrics = send(request.bearer_auth(KEY)).await.body;
    assert!(metrics.contains("\npresence_streams 1\n"), "{metrics}");
    scene.browser.quit().await;
}

#[tokio::test]
async fn a_page_that_signs_out_stays_offline() {
    let scene = Scene::start().await;
    scene.open("alice").await;
    scene.lists("window", &["alice"]).await;
    scene
        .browser
        .run("document.getElementById('sign-out').click()")
        .await;
    scene.lists("window", &[]).await;
    let client = scene.deployment.client();
    let mut stream = Stream::send(Stream::request(&client, "").bearer_auth(KEY)).await;
    scene
        .browser
        .run("dispatchEvent(new Event('online')); dispatchEvent(new Event('pagehide'))")
        .await;
    connect(&client, "marker").await;
    assert_eq!(stream.next().await.brief(), "online marker");
    assert!(!scene.user("alice").await.online);
    scene.browser.quit().await;
}

#[tokio::test]
async fn a_page_replaces_a_token_that_has_expired() {
    let scene = Scene::start().await;
    scene.browser.open(&scene.page).await;
    let client = scene.deployment.client();
    let watch = json!(["alice", "dora"]);
    // The first token is refused, the second one ends its stream, and the last one is good.
    let tokens = [-10, 3, 600].map(|seconds| token_for("dora", &watch, seconds));
    let script = format!(
        "const options = {{ service: '{}', userId: 'dora', userIds: ['alice', 'dora'] }};
         const tokens = () => {{
             const tokens = {};
             return async () => tokens.length > 1 ? tokens.shift() : tokens[0];
         }};
         window.seen = {{ states: [], stale: 0 }};
         import('/presence.js').then(({{ stayOnline, watch }}) => {{
             stayOnline({{ ...options, getToken: tokens(), onState: (state) => seen.states.push(state) }});
             watch({{
                 ...options,
                 getToken: tokens(),
                 onUsers: (users) => (seen.users = [...users].sort()),
                 onStale: () => seen.stale++,
             }});
         }});",
        client.base(),
        json!(tokens),
    );
    scene.browser.run(&script).await;
    let sees = async |users: &[&str]| {
        let what = format!("the page sees {users:?}");
        eventually_true(&what, async || {
            scene.browser.run("return seen.users").await == json!(users)
        })
        .await;
    };
    sees(&["alice", "dora"]).await;
    eventually("the tokens were replaced", async || {
        let states = scene.browser.run("return seen.states").await;
        let expired = json!("urn:presence:problem:token-expired");
        let states = states.as_array()?;
        let refused = states.iter().filter(|state| **state == expired).count();
        (refused == 2 && states.last()? == "online").then_some(())
    })
    .await;
    let gone = client.of_user("alice", "disconnect").bearer_auth(KEY);
    let gone = gone.json(&json!({"all": true}));
    eventually_true("the stream was opened again", async || {
        scene.browser.run("return seen.stale >= 3").await == true
    })
    .await;
    assert_eq!(send(gone).await.status, 200);
    sees(&["dora"]).await;
    scene.browser.quit().await;
}

/// A page of another origin, and a service in open mode that allows this origin.
async fn open_service() -> (Page, Browser, Instance) {
    let page = Page::empty().await;
    let settings = Settings::new().with("PRESENCE_CORS_ORIGINS", page.origin());
    let instance = Instance::start(&settings).await;
    let browser = Browser::start().await;
    browser.open(page.origin()).await;
    (page, browser, instance)
}

#[tokio::test]
async fn the_browser_drops_a_beacon_of_json_to_another_origin() {
    let (_page, browser, instance) = open_service().await;
    let client = instance.client();
    for user in ["alice", "bob"] {
        client.connect(user).await;
    }
    let base = client.base();
    let script = format!(
        "const users = '{base}/v1/users/';
         const json = new Blob(['{{}}'], {{ type: 'application/json' }});
         navigator.sendBeacon(users + 'alice/disconnect', json);
         navigator.sendBeacon(users + 'bob/disconnect', '{{}}');"
    );
    browser.run(&script).await;
    eventually_true("the beacon of text arrives", async || {
        !client.user("bob").await.online
    })
    .await;
    assert!(client.user("alice").await.online);
    browser.quit().await;
}

#[tokio::test]
async fn six_streams_over_http_1_delay_every_ping_of_a_browser() {
    let (_page, browser, instance) = open_service().await;
    let base = instance.client().base().to_owned();
    let script = format!(
        "window.opened = 0;
         window.streams = Array.from({{ length: 6 }}, () => new EventSource('{base}/v1/events'));
         for (const stream of streams) stream.onopen = () => opened++;"
    );
    browser.run(&script).await;
    eventually_true("six streams are open", async || {
        browser.run("return opened").await == 6
    })
    .await;
    let script = format!(
        "window.answered = false;
         fetch('{base}/v1/users/alice/ping', {{ method: 'POST' }}).then(() => (answered = true));"
    );
    browser.run(&script).await;
    // The service answers other clients meanwhile.
    instance.client().ping("bob").await;
    assert!(!instance.client().user("alice").await.online);
    assert_eq!(browser.run("return answered").await, false);
    browser.run("streams[0].close()").await;
    eventually_true("the ping gets through", async || {
        browser.run("return answered").await == true
    })
    .await;
    browser.quit().await;
}

/// The state of a new `EventSource` at its first error.
async fn state_at_first_error(browser: &Browser, name: &str, url: &str) -> Value {
    let script = format!(
        "window.state = undefined;
         const source = new EventSource('{url}');
         source.onerror = () => {{
             window.state ??= source.readyState === EventSource.CLOSED ? 'CLOSED' : 'CONNECTING';
             source.close();
         }};"
    );
    browser.run(&script).await;
    eventually(name, async || {
        let state = browser.run("return window.state").await;
        (state != Value::Null).then_some(state)
    })
    .await
}

/// The table of the guide with the state of an `EventSource` at its first error.
#[tokio::test]
async fn an_event_source_stops_in_the_cases_of_the_guide() {
    let page = Page::empty().await;
    let settings = settings().with("PRESENCE_CORS_ORIGINS", page.origin());
    let allows = Deployment::with(Store::Embedded, settings.clone()).await;
    let full = settings.clone().with("PRESENCE_STREAMS", "1");
    let full = Instance::start(&full).await;
    let _only = Stream::send(Stream::request(&full.client(), "").bearer_auth(KEY)).await;
    let foreign = settings.with("PRESENCE_CORS_ORIGINS", "https://other.example");
    let foreign = Instance::start(&foreign).await;
    let url = |client: Client, query: &str| format!("{}/v1/events?{query}", client.base());
    let good = format!("access_token={}", token("alice", &json!([])));
    let cases = [
        (
            "nothing listens",
            format!("http://127.0.0.1:{}/", free_port()),
            "CONNECTING",
        ),
        (
            "too many streams",
            url(full.client(), &format!("userIds=alice&{good}")),
            "CONNECTING",
        ),
        (
            "400",
            url(allows.client(), &format!("userids=alice&{good}")),
            "CLOSED",
        ),
        (
            "401",
            url(allows.client(), "userIds=alice&access_token=x.y.z"),
            "CLOSED",
        ),
        (
            "403",
            url(allows.client(), &format!("userIds=bob&{good}")),
            "CLOSED",
        ),
        (
            "a foreign origin",
            url(foreign.client(), &format!("userIds=alice&{good}")),
            "CLOSED",
        ),
    ];
    let browser = Browser::start().await;
    browser.open(page.origin()).await;
    for (name, url, expected) in cases {
        let state = state_at_first_error(&browser, name, &url).await;
        assert_eq!(state, expected, "{name}");
    }
    browser.quit().await;
}
