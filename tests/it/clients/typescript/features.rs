//! Tabs that share, states, groups and events as JSON, against the service.

use harness::client::{Client, send};
use harness::process::Signal;
use harness::sse::Stream;
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Scene, brisk, built, script, settings, shows, tokens};
use crate::auth::Signer;
use crate::clients::browser::{Browser, Page};
use crate::clients::guides::{KEY, SECRET, seconds_from_now};

/// A token for `user` that sees everybody, and may join and see each group.
fn token(user: &str) -> String {
    let claims = json!({
        "sub": user,
        "exp": seconds_from_now(600),
        "watch": "*",
        "groups": "*",
        "join": "*",
    });
    Signer::secret(SECRET.as_bytes()).token(&claims)
}

async fn write_group(client: &Client, method: Method, body: &Value) {
    let request = client.request(method, "/v1/groups/team-7").json(body);
    let answer = send(request.bearer_auth(KEY)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn tabs_share_one_connection_and_one_stream_and_hand_both_over() {
    let page = Page::with_files_of(&built().await.join("dist")).await;
    let settings = brisk().with("PRESENCE_CORS_ORIGINS", page.origin());
    let scene = Scene::start(settings).await;
    let mut alice = scene.stream("alice").await;
    let browser = Browser::start().await;
    let script = script(&scene.url(), &tokens(&[600]));
    browser.open(page.origin()).await;
    browser.run(&script).await;
    shows(&browser, "live").await;
    let [first, second] = browser.open_window(page.origin()).await;
    browser.run(&script).await;
    shows(&browser, "live").await;
    assert_eq!(alice.next().await.brief(), "online alice");
    let before = scene.user("alice").await;
    assert_eq!(before.connections.len(), 1);
    let request = scene.deployment.client().request(Method::GET, "/metrics");
    let metrics = send(request.bearer_auth(KEY)).await.body;
    // The other stream is that of the test.
    assert!(metrics.contains("\npresence_streams 2\n"), "{metrics}");

    browser.select_window(&first).await;
    browser.close_window().await;
    browser.select_window(&second).await;
    eventually_true("the other tab has the connection", async || {
        let after = scene.user("alice").await;
        after.connections.len() == 1 && after.connection_ids() != before.connection_ids()
    })
    .await;
    scene.connect("bob").await;
    shows(&browser, "live bob").await;

    // A reload is no departure.
    browser.open(page.origin()).await;
    browser.run(&script).await;
    shows(&browser, "live bob").await;
    browser.open("about:blank").await;
    let event = alice.next().await;
    assert_eq!(event.brief(), "offline alice");
    assert_eq!(event.json()["reason"], "disconnected");
    browser.quit().await;
}

#[tokio::test]
async fn a_hidden_page_is_away() {
    let page = Page::with_files_of(&built().await.join("dist")).await;
    let settings = settings().with("PRESENCE_CORS_ORIGINS", page.origin());
    let scene = Scene::start(settings).await;
    let mut alice = scene.stream("alice").await;
    let browser = Browser::start().await;
    browser.open(page.origin()).await;
    browser.run(&script(&scene.url(), &tokens(&[600]))).await;
    assert_eq!(alice.next().await.brief(), "online alice");
    for (state, away) in [("minimized", true), ("normal", false)] {
        browser.set_window(state).await;
        let event = alice.next().await;
        assert_eq!(event.name, "user.updated");
        assert_eq!(event.json()["away"], away);
    }
    browser.quit().await;
}

#[tokio::test]
async fn states_and_members_are_shown() {
    let scene = Scene::start(settings()).await;
    let client = scene.deployment.client();
    write_group(&client, Method::PUT, &json!({"members": ["bob"]})).await;
    let options = json!({ "userId": "alice", "tokens": [token("alice")] });
    let mut alice = scene
        .client(options, &json!({"groupIds": ["team-7"]}))
        .await;
    alice.shows("live").await;
    let status = json!({ "status": "dnd" });
    let options = json!({ "userId": "bob", "tokens": [token("bob")], "status": status });
    let mut bob = scene.client(options, &json!({"userIds": ["alice"]})).await;
    bob.shows("live alice").await;
    alice.shows("live bob(dnd)").await;

    // A member by pinging, and one that a back end adds and removes.
    let options = json!({ "userId": "carol", "tokens": [token("carol")], "joins": ["team-7"] });
    let mut carol = scene
        .client(options, &json!({"groupIds": ["team-7"]}))
        .await;
    carol.shows("live bob(dnd) carol").await;
    alice.shows("live bob(dnd) carol").await;
    write_group(&client, Method::PATCH, &json!({"add": ["alice"]})).await;
    alice.shows("live alice bob(dnd) carol").await;
    write_group(&client, Method::PATCH, &json!({"remove": ["bob"]})).await;
    alice.shows("live alice carol").await;
    carol.process.send(Signal::Interrupt);
    alice.shows("live alice").await;
}

#[tokio::test]
async fn events_are_read_as_json_where_streams_do_not_pass() {
    let mut scene = Scene::start(settings()).await;
    let tokens = tokens(&[600]);
    let options = json!({ "userId": "alice", "tokens": tokens, "swallow": true, "silenceMs": 500 });
    let list = json!({ "userIds": ["bob", "carol"] });
    let mut alice = scene.client(options, &list).await;
    alice.shows("live").await;
    scene.connect("bob").await;
    alice.shows("live bob").await;
    scene.deployment.instances[0].kill();
    alice.shows("lost bob").await;
    scene.replace().await;
    scene.connect("carol").await;
    alice.shows("live bob carol").await;
}

#[tokio::test]
async fn own_groups_need_no_list() {
    let scene = Scene::start(settings()).await;
    let client = scene.deployment.client();
    write_group(&client, Method::PUT, &json!({"members": ["alice", "bob"]})).await;
    scene.connect("bob").await;
    let claims = json!({ "sub": "alice", "exp": seconds_from_now(600), "groups": "own" });
    let token = Signer::secret(SECRET.as_bytes()).token(&claims);
    let options = json!({ "userId": "alice", "tokens": [token] });
    let mut alice = scene.client(options, &json!({})).await;
    alice.shows("live alice bob").await;
    let mut events = Stream::send(Stream::request(&client, "").bearer_auth(KEY)).await;
    write_group(&client, Method::PATCH, &json!({"remove": ["bob"]})).await;
    alice.shows("live alice").await;
    alice.process.send(Signal::Interrupt);
    assert_eq!(events.next().await.brief(), "offline alice");
}
