//! Streams of groups.

use harness::client::{Client, crowd, send};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::groups::{delete, patch, put};
use harness::instance::Settings;
use harness::sse::{Event, Stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::problems::problem;

/// An event of a group or user in short: `joined team [alice (online), bob]`, `left team [bob] removed`, `online
/// alice`.
fn brief(event: &Event) -> String {
    let data = event.json();
    let list = |field: &str| {
        let ids = data[field].as_array().cloned().unwrap_or_default();
        let ids = ids
            .into_iter()
            .map(|id| id.as_str().expect("an id").to_owned());
        ids.collect::<Vec<_>>()
    };
    let group = data["groupId"].as_str().unwrap_or_default();
    match &*event.name {
        "group.joined" => {
            let online = list("online");
            let users = list("userIds").into_iter().map(|user| {
                let state = if online.contains(&user) {
                    " (online)"
                } else {
                    ""
                };
                user + state
            });
            let mut users: Vec<_> = users.collect();
            users.sort();
            format!("joined {group} {}", users.join(", "))
        }
        "group.left" => {
            let mut users = list("userIds");
            users.sort();
            let reason = data["reason"].as_str().expect("a reason");
            format!("left {group} {} {reason}", users.join(", "))
        }
        "presence.snapshot" => {
            let members = &data["members"];
            format!("snapshot {group} {members} {}", list("online").join(", "))
        }
        "presence.reset" => format!("reset {}", event.reason()),
        _ => event.brief(),
    }
}

pub(super) async fn open(client: &Client, query: &str) -> Stream {
    put(client, "markers", &["marker", "marker-1", "marker-2"]).await;
    Stream::open(client, query).await
}

/// Asserts that these are the next events. Events of different partitions have no order, so a test waits for the event
/// of each step.
pub(super) async fn assert_next(stream: &mut Stream, expected: &[&str]) {
    for expected in expected {
        assert_eq!(brief(&stream.next().await), *expected);
    }
}

async fn a_stream_carries_the_events_of_members(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "team", &["alice", "bob"]).await;
    let mut stream = open(&client, "?groupIds=team,markers").await;
    client.connect("alice").await;
    assert_next(&mut stream, &["online alice"]).await;
    client.connect("stranger").await;
    client.connect("bob").await;
    assert_next(&mut stream, &["online bob"]).await;
    client.disconnect("stranger").await;
    client.disconnect("alice").await;
    assert_next(&mut stream, &["offline alice"]).await;
    client.connect("marker").await;
    assert_next(&mut stream, &["online marker"]).await;
}

async fn a_stream_follows_the_members(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "team", &["alice"]).await;
    client.connect("bob").await;
    let mut stream = open(&client, "?groupIds=team,markers").await;
    client.connect("carol").await;
    patch(&client, "team", &["bob", "carol", "dave"], &[]).await;
    let expected = "joined team bob (online), carol (online), dave";
    assert_next(&mut stream, &[expected]).await;
    client.disconnect("carol").await;
    assert_next(&mut stream, &["offline carol"]).await;
    client.connect("dave").await;
    assert_next(&mut stream, &["online dave"]).await;
    patch(&client, "team", &["erin"], &["carol", "alice"]).await;
    let expected = ["left team alice, carol removed", "joined team erin"];
    assert_next(&mut stream, &expected).await;
    client.connect("carol").await;
    client.connect("alice").await;
    client.disconnect("bob").await;
    assert_next(&mut stream, &["offline bob"]).await;
    delete(&client, "team").await;
    assert_next(&mut stream, &["left team bob, dave, erin removed"]).await;
    client.connect("bob").await;
    client.connect("marker").await;
    assert_next(&mut stream, &["online marker"]).await;
}

/// However many of the groups and lists have the user.
async fn each_event_comes_once(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for group in ["one", "two", "three"] {
        put(&client, group, &["alice", "bob"]).await;
    }
    let mut stream = open(&client, "?groupIds=one,two,three,markers&userIds=alice,zoe").await;
    for user in ["alice", "zoe", "bob"] {
        client.connect(user).await;
        assert_next(&mut stream, &[&format!("online {user}")]).await;
    }
    for group in ["one", "two"] {
        patch(&client, group, &[], &["alice", "bob"]).await;
        let left = format!("left {group} alice, bob removed");
        assert_next(&mut stream, &[&left]).await;
    }
    client.disconnect("bob").await;
    assert_next(&mut stream, &["offline bob"]).await;
    patch(&client, "three", &[], &["alice", "bob"]).await;
    assert_next(&mut stream, &["left three alice, bob removed"]).await;
    client.disconnect("alice").await;
    assert_next(&mut stream, &["offline alice"]).await;
    client.connect("bob").await;
    client.connect("marker").await;
    assert_next(&mut stream, &["online marker"]).await;
}

async fn a_snapshot_has_a_message_for_each_group(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "team", &["alice", "bob", "carol"]).await;
    put(&client, "other", &["alice", "dave"]).await;
    for user in ["alice", "carol", "zoe"] {
        client.connect(user).await;
    }
    let query = "?groupIds=team,other,empty&userIds=zoe,nobody&snapshot=true";
    let mut stream = Stream::open(&client, query).await;
    let events = stream
        .collect_until(|event| event.name == "presence.ready")
        .await;
    let mut seen: Vec<_> = events.iter().map(brief).collect();
    assert_eq!(seen.pop().as_deref(), Some("presence.ready"));
    assert_eq!(events.last().expect("ready").json(), json!({"count": 3}));
    assert_eq!(seen.remove(0), "snapshot  null zoe");
    seen.sort();
    let expected = [
        "snapshot empty 0 ",
        "snapshot other 2 alice",
        "snapshot team 3 alice, carol",
    ];
    assert_eq!(seen, expected);
    client.disconnect("alice").await;
    client.connect("dave").await;
    let next = [stream.next().await, stream.next().await];
    assert_eq!(
        next.map(|event| event.brief()),
        ["offline alice", "online dave"]
    );
}

async fn a_large_group_has_a_snapshot_in_several_messages(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let users = crowd("user", 2_500);
    put(&client, "crowd", &users).await;
    client.connect_each(&users[..1_200]).await;
    let mut stream = Stream::open(&client, "?groupIds=crowd&snapshot=true").await;
    let mut events = stream
        .collect_until(|event| event.name == "presence.ready")
        .await;
    events.pop();
    assert!(events.len() > 1, "{}", events.len());
    let mut online = Vec::new();
    for event in &events {
        let data = event.json();
        assert_eq!(
            (&data["groupId"], &data["members"]),
            (&json!("crowd"), &json!(2_500))
        );
        online.extend(event.online());
    }
    online.sort();
    assert_eq!(online, users[..1_200]);
}

/// Lists, all users, and groups at once: each stream carries exactly its own.
async fn other_streams_carry_no_events_of_groups(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut all = Stream::open(&client, "").await;
    let mut listed = Stream::open(&client, "?userIds=alice,marker").await;
    put(&client, "team", &["alice", "bob"]).await;
    client.connect("alice").await;
    client.connect("bob").await;
    delete(&client, "team").await;
    let mut seen = [brief(&all.next().await), brief(&all.next().await)];
    seen.sort();
    assert_eq!(seen, ["online alice", "online bob"]);
    client.connect("marker").await;
    assert_next(&mut all, &["online marker"]).await;
    let event = listed.next().await;
    assert_eq!(event.brief(), "online alice");
    assert_eq!(listed.next().await.brief(), "online marker");
}

async fn the_post_form_takes_groups_too(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "a,b", &["alice"]).await;
    let body = json!({"groupIds": ["a,b"], "snapshot": true});
    let request = client.request(Method::POST, "/v1/events").json(&body);
    let mut stream = Stream::send(request).await;
    assert_eq!(brief(&stream.next().await), "snapshot a,b 1 ");
    assert_eq!(stream.next().await.name, "presence.ready");
    client.connect("alice").await;
    assert_eq!(stream.next().await.brief(), "online alice");
}

async fn the_events_of_groups_are_read_as_json(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "team", &["alice", "bob"]).await;
    client.connect("bob").await;
    let read = async |query: &str| {
        let path = format!("/v1/events?groupIds=team{query}");
        let request = client.request(Method::GET, &path);
        let answer = send(request.header("Accept", "application/json")).await;
        answer.ok::<Value>()
    };
    let first = read("&snapshot=true").await;
    let names = |list: &Value| {
        let events = list["events"].as_array().expect("a list").iter();
        let names = events.map(|event| event["event"].as_str().expect("a name").to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&first), ["presence.snapshot", "presence.ready"]);
    let snapshot = &first["events"][0]["data"];
    assert_eq!(
        snapshot,
        &json!({"groupId": "team", "members": 2, "online": ["bob"]})
    );
    client.connect("alice").await;
    client.connect("stranger").await;
    let cursor = first["cursor"].as_str().expect("a cursor");
    let second = read(&format!("&lastEventId={cursor}&waitMs=5000")).await;
    assert_eq!(names(&second), ["user.online"]);
    patch(&client, "team", &[], &["bob"]).await;
    let cursor = second["cursor"].as_str().expect("a cursor");
    let third = read(&format!("&lastEventId={cursor}")).await;
    assert_eq!(
        third["events"][0]["data"],
        json!({"reason": "group-changed"})
    );
}

async fn an_expired_member_is_announced(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    put(&client, "team", &["alice"]).await;
    let mut stream = Stream::open(&client, "?groupIds=team").await;
    client.connect("alice").await;
    assert_eq!(stream.next().await.brief(), "online alice");
    let event = stream.next().await;
    assert_eq!(
        (event.brief(), event.reason()),
        ("offline alice".into(), "expired".into())
    );
}

async fn bad_lists_of_groups_are_refused(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let groups = crowd("group", 101);
    for (body, kind) in [
        (json!({"groupIds": []}), "no-group-ids"),
        (json!({"groupIds": null}), "invalid-json"),
        (json!({"groupIds": ["a", ""]}), "invalid-group-id"),
        (json!({"groupIds": "a"}), "invalid-json"),
        (json!({"groupIds": &groups}), "too-many-group-ids"),
        (json!({"groupids": ["a"]}), "invalid-json"),
    ] {
        let request = client.request(Method::POST, "/v1/events").json(&body);
        let problem = problem(&send(request).await, 400);
        assert!(problem.kind.ends_with(kind), "{body}: {problem:?}");
        assert!(
            problem.detail.to_lowercase().contains("groupids"),
            "{problem:?}"
        );
    }
    for query in [
        "?groupIds=",
        "?groupIds=a,",
        "?groupIds=%00",
        "?groupIds%5B%5D=a",
    ] {
        problem(&client.get(&format!("/v1/events{query}")).await, 400);
    }
    let body = json!({"groupIds": &groups[..100]});
    let request = client.request(Method::POST, "/v1/events").json(&body);
    assert!(!Stream::send(request).await.last_id().is_empty());
}

/// A stream on another instance, and one that was opened on the same group before.
#[tokio::test]
async fn streams_of_several_instances_agree() {
    let deployment = Deployment::of(2, Settings::new()).await;
    let clients = deployment.clients();
    put(&clients[0], "team", &["alice"]).await;
    let mut streams = Vec::new();
    for client in clients.iter().chain(&clients) {
        streams.push(open(client, "?groupIds=team,markers").await);
    }
    let expect = async |streams: &mut [Stream], expected: &[&str]| {
        for stream in streams {
            // The second opening stored the markers again, and nobody joined then.
            assert_next(stream, expected).await;
        }
    };
    put(&clients[1], "team", &["alice", "bob"]).await;
    expect(&mut streams, &["joined team bob"]).await;
    clients[0].connect("bob").await;
    expect(&mut streams, &["online bob"]).await;
    patch(&clients[0], "team", &["carol"], &["alice"]).await;
    expect(
        &mut streams,
        &["left team alice removed", "joined team carol"],
    )
    .await;
    clients[1].connect("carol").await;
    expect(&mut streams, &["online carol"]).await;
}

on_both_stores!(
    a_stream_carries_the_events_of_members,
    a_stream_follows_the_members,
    each_event_comes_once,
    a_snapshot_has_a_message_for_each_group,
    a_large_group_has_a_snapshot_in_several_messages,
    other_streams_carry_no_events_of_groups,
    the_post_form_takes_groups_too,
    the_events_of_groups_are_read_as_json,
    an_expired_member_is_announced,
    bad_lists_of_groups_are_refused,
);
