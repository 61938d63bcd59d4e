//! Events as JSON: lists of the messages of a stream.

use std::time::Duration;

use futures_util::future::join_all;
use harness::client::{Answer, Client, crowd, media_type, send};
use harness::deployment::{Deployment, Store, on_both_stores, over_each_protocol};
use harness::instance::{Instance, Settings};
use harness::sse::{Stream, briefs};
use harness::wait::{eventually_true, eventually_within};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::time::{Instant, sleep};

use crate::contract::problems::problem;

/// Less than each wait of these tests, and more than a loaded machine needs for a call.
const AT_ONCE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    events: Vec<Item>,
    cursor: String,
    more: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    id: String,
    event: String,
    data: Value,
}

impl List {
    /// Such as `user.online alice`; other messages have their name only.
    fn briefs(&self) -> Vec<String> {
        let brief = |item: &Item| {
            let user = item.data["userId"].as_str().unwrap_or_default();
            format!("{} {user}", item.event).trim_end().to_owned()
        };
        self.events.iter().map(brief).collect()
    }
}

fn request(client: &Client, query: &str) -> RequestBuilder {
    let request = client.request(Method::GET, &format!("/v1/events{query}"));
    request.header("Accept", "application/json")
}

async fn list(client: &Client, query: &str) -> List {
    send(request(client, query)).await.ok()
}

async fn list_after(client: &Client, query: &str, cursor: &str) -> List {
    let request = request(client, query).header("Last-Event-ID", cursor);
    send(request).await.ok()
}

async fn post(client: &Client, query: &str, body: Value) -> Answer {
    let request = client.request(Method::POST, &format!("/v1/events{query}"));
    let request = request.header("Accept", "application/json");
    send(request.json(&body)).await
}

async fn lists_and_streams_resume_from_each_other(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let first = Stream::open(&client, "").await.last_id();
    client.connect("alice").await;
    client.disconnect("alice").await;
    client.connect("bob").await;
    let answer = send(request(&client, &format!("?lastEventId={first}"))).await;
    assert_eq!(media_type(&answer.headers), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    let found: List = answer.ok();
    let expected = ["user.online alice", "user.offline alice", "user.online bob"];
    assert_eq!(found.briefs(), expected);
    assert!(!found.more);
    let offline = &found.events[1].data;
    assert_eq!(offline["reason"], "disconnected");
    let mut stream = Stream::resume(&client, "", &found.events[0].id).await;
    assert_eq!(
        briefs(&stream.changes(2).await),
        ["offline alice", "online bob"]
    );
    let nothing = list_after(&client, "", &found.cursor).await;
    assert_eq!(nothing.briefs(), [""; 0]);
    let query = format!("?lastEventId={first}");
    let of_bob: List = post(&client, &query, json!({"userIds": ["bob"]}))
        .await
        .ok();
    assert_eq!(of_bob.briefs(), ["user.online bob"]);
    let again = list_after(&client, "?userIds=bob", &of_bob.events[0].id).await;
    assert!(again.events.is_empty() && !again.more);
}

async fn the_cursor_advances_if_nothing_matched(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let first = list(&client, "?userIds=alice").await;
    assert!(first.events.is_empty());
    client.connect("bob").await;
    let second = list_after(&client, "?userIds=alice", &first.cursor).await;
    assert!(second.events.is_empty());
    assert_ne!(second.cursor, first.cursor);
    client.connect("carol").await;
    let rest = list_after(&client, "", &second.cursor).await;
    assert_eq!(rest.briefs(), ["user.online carol"]);
}

async fn a_snapshot_is_listed_as_a_whole_and_continues_without_a_gap(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let users = crowd("user", 1_200);
    client.connect_each(&users).await;
    let body = json!({"userIds": users, "snapshot": true});
    let found: List = post(&client, "", body).await.ok();
    let (ready, parts) = found.events.split_last().expect("messages");
    assert_eq!(ready.event, "presence.ready");
    assert_eq!(ready.data, json!({"count": 1_200}));
    assert!(parts.iter().all(|part| part.event == "presence.snapshot"));
    let online = parts
        .iter()
        .flat_map(|part| part.data["online"].as_array().into_iter().flatten());
    assert_eq!(online.count(), 1_200);
    assert_eq!(ready.id, found.cursor);
    client.disconnect(&users[7]).await;
    let query = format!("?snapshot=true&userIds={}", users[7]);
    let changes = list_after(&client, &query, &found.cursor).await;
    assert_eq!(changes.briefs(), [format!("user.offline {}", users[7])]);
}

async fn an_unknown_cursor_is_listed_as_a_reset(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    let found = list_after(&client, "", "unknown").await;
    assert_eq!(found.briefs(), ["presence.reset"]);
    assert_eq!(found.events[0].data, json!({"reason": "unknown-cursor"}));
    client.connect("bob").await;
    let next = list_after(&client, "", &found.cursor).await;
    assert_eq!(next.briefs(), ["user.online bob"]);
    let found = list_after(&client, "?userIds=alice&snapshot=true", "unknown").await;
    let expected = ["presence.reset", "presence.snapshot", "presence.ready"];
    assert_eq!(found.briefs(), expected);
    assert_eq!(found.events[1].data, json!({"online": ["alice"]}));
}

async fn earliest_selects_everything_that_is_kept_at_most_a_thousand_at_a_time(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    assert!(
        list(&client, "?lastEventId=earliest")
            .await
            .events
            .is_empty()
    );
    let users = crowd("user", 1_100);
    for part in users.chunks(550) {
        client.connect_each(part).await;
    }
    let first = list(&client, "?lastEventId=earliest").await;
    assert_eq!((first.events.len(), first.more), (1_000, true));
    assert!(first.cursor.starts_with(&first.events[999].id));
    let rest = list_after(&client, "?waitMs=25000", &first.cursor).await;
    assert_eq!((rest.events.len(), rest.more), (100, false));
    let mut seen = [first.briefs(), rest.briefs()].concat();
    seen.sort_unstable();
    let mut expected: Vec<_> = users
        .iter()
        .map(|user| format!("user.online {user}"))
        .collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    let mut stream = Stream::resume(&client, "?userIds=user-00007,user-00008", "earliest").await;
    let changes = stream.changes(2).await;
    assert!(changes.iter().all(|event| event.name == "user.online"));
}

/// The members join and leave one after another, on both sides of the end of a page.
async fn the_pages_of_a_group_are_complete(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let users = crowd("user", 700);
    let call = async |user: &str, verb: &str, body: Value| {
        let request = client.request(Method::POST, &format!("/v1/users/{user}/{verb}"));
        assert_eq!(send(request.json(&body)).await.status, 200);
    };
    for part in users.chunks(100) {
        join_all(
            part.iter()
                .map(|user| call(user, "connect", json!({"groups": ["team"]}))),
        )
        .await;
    }
    for part in users[..400].chunks(100) {
        join_all(part.iter().map(|user| call(user, "disconnect", json!({})))).await;
    }
    for users_too in ["", "&userIds=user-00003"] {
        let query = format!("?groupIds=team{users_too}");
        let mut page = list(&client, &format!("{query}&lastEventId=earliest")).await;
        let (mut items, mut pages) = (Vec::new(), 1);
        while page.more {
            items.append(&mut page.events);
            page = list_after(&client, &query, &page.cursor).await;
            pages += 1;
        }
        items.append(&mut page.events);
        assert!(pages > 1, "{} items", items.len());
        let named = |event: &str| {
            let of_event = items.iter().filter(|item| item.event == event);
            let users = of_event.flat_map(|item| item.data["userIds"].as_array().expect("users"));
            let mut users: Vec<_> = users.filter_map(Value::as_str).collect();
            users.sort_unstable();
            users
        };
        assert_eq!(named("group.joined"), users);
        assert_eq!(named("group.left"), users[..400]);
        assert!(items.iter().all(|item| item.event != "presence.reset"));
    }
}

async fn a_wait_ends_with_the_first_event_or_after_its_time(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for (query, body) in [
        ("?waitMs=25000", json!({})),
        ("", json!({"waitMs": 25_000})),
        ("", json!({"waitMs": 25_000, "userIds": ["alice"]})),
    ] {
        let began = Instant::now();
        let connect = async {
            sleep(Duration::from_millis(300)).await;
            client.connect("alice").await;
        };
        let (found, ()) = tokio::join!(post(&client, query, body), connect);
        let found: List = found.ok();
        assert_eq!(found.briefs(), ["user.online alice"]);
        assert_eq!(found.cursor, found.events[0].id);
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        client.disconnect("alice").await;
    }
    let began = Instant::now();
    let found = list(&client, "?userIds=nobody&waitMs=600").await;
    assert!(found.events.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(600));
}

async fn bad_parameters_of_a_list_are_400(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for query in [
        "?snapshot=true",
        "?waitMs=25001",
        "?waitMs=-1",
        "?waitMs=",
        "?waitMs=%2B1",
        "?waitMs=1&waitMs=1",
        "?waitMs=99999999999999999999999",
    ] {
        let field = query.split(['?', '=']).nth(1).unwrap_or_default();
        let detail = problem(&send(request(&client, query)).await, 400).detail;
        assert!(detail.starts_with(&format!("{field}: ")), "{detail}");
    }
    for (query, field, body) in [
        ("", "snapshot", json!({"snapshot": true})),
        ("", "waitMs", json!({"waitMs": 25_001})),
        ("", "waitMs", json!({"waitMs": -1})),
        ("", "waitMs", json!({"waitMs": "1"})),
        ("?waitMs=1", "waitMs", json!({"waitMs": 1})),
    ] {
        let detail = problem(&post(&client, query, body).await, 400).detail;
        assert!(detail.starts_with(&format!("{field}: ")), "{detail}");
    }
}

/// A response has what another instance wrote before the call.
async fn lists_cover_what_the_store_held(deployment: &Deployment) {
    let clients = deployment.clients();
    let mut cursor = list(&clients[0], "").await.cursor;
    for round in 0..20 {
        let [writer, reader] = [round % 2, (round + 1) % 2].map(|each: usize| &clients[each]);
        let user = format!("user-{round}");
        writer.connect(&user).await;
        let found = list_after(reader, "", &cursor).await;
        assert_eq!(found.briefs(), [format!("user.online {user}")], "{round}");
        cursor = found.cursor;
    }
    let all = list(&clients[0], "?lastEventId=earliest").await;
    assert_eq!(all.events.len(), 20);
}

#[tokio::test]
async fn a_list_covers_everything_that_the_store_held_when_the_call_arrived() {
    lists_cover_what_the_store_held(&Deployment::of(2, Settings::new()).await).await;
}

#[tokio::test]
async fn a_list_over_partitions_covers_everything_that_the_store_held() {
    let settings = Settings::new().with("PRESENCE_PARTITIONS", "16");
    lists_cover_what_the_store_held(&Deployment::of(2, settings).await).await;
}

#[tokio::test]
async fn lost_data_is_listed_as_a_reset() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let client = deployment.client();
    client.connect("alice").await;
    let before = list(&client, "").await.cursor;
    deployment.redis().flush_all().await;
    let found = list_after(&client, "?userIds=alice&snapshot=true", &before).await;
    let expected = ["presence.reset", "presence.snapshot", "presence.ready"];
    assert_eq!(found.briefs(), expected);
    assert_eq!(found.events[1].data, json!({"online": []}));
}

#[tokio::test]
async fn a_list_is_503_while_the_store_is_unreachable() {
    let mut deployment = Deployment::on_one_server(1, Settings::new()).await;
    let client = deployment.client();
    let cursor = list(&client, "").await.cursor;
    deployment.redis_mut().kill();
    let request = request(&client, "?waitMs=25000").header("Last-Event-ID", cursor);
    let answer = send(request).await;
    assert_eq!(
        problem(&answer, 503).kind,
        "urn:presence:problem:store-unreachable"
    );
    assert!(!answer.header("retry-after").is_empty());
}

/// A wait counts as a stream. Here waits take all places.
#[tokio::test]
async fn a_client_that_resets_its_connection_does_not_wait_any_more() {
    const MOST: usize = 3;
    let settings = Settings::new().with("PRESENCE_STREAMS", &MOST.to_string());
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let wait = "GET /v1/events?waitMs=25000 HTTP/1.1\r\nHost: localhost\r\n\
                Accept: application/json\r\n\r\n";
    let mut waiting = Vec::new();
    for _ in 0..MOST {
        waiting.push(instance.told(wait.as_bytes()).await);
    }
    eventually_true("all wait", async || {
        client.metric("presence_streams").await == Some(MOST as u64)
    })
    .await;
    let status = async || send(request(&client, "?waitMs=1")).await.status;
    assert_eq!(status().await, 429);
    for connection in waiting {
        let linger = SockRef::from(&connection).set_linger(Some(Duration::ZERO));
        linger.expect("a reset is sent at the end");
    }
    eventually_within(AT_ONCE, "a place is free", async || {
        (status().await == 200).then_some(())
    })
    .await;
}

over_each_protocol!(
    lists_and_streams_resume_from_each_other,
    a_wait_ends_with_the_first_event_or_after_its_time,
);

mod stores {
    use super::*;

    on_both_stores!(
        the_cursor_advances_if_nothing_matched,
        a_snapshot_is_listed_as_a_whole_and_continues_without_a_gap,
        an_unknown_cursor_is_listed_as_a_reset,
        earliest_selects_everything_that_is_kept_at_most_a_thousand_at_a_time,
        the_pages_of_a_group_are_complete,
        bad_parameters_of_a_list_are_400,
    );
}
