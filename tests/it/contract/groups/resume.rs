//! Streams of groups that resume.

use harness::client::Client;
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::groups::{patch, put};
use harness::instance::Settings;
use harness::sse::{Stream, alternating, briefs};

const QUERY: &str = "?groupIds=team,other";

/// A stream of two groups that was cut after the event in which alice came online.
async fn cut(client: &Client) -> String {
    put(client, "team", &["alice", "bob"]).await;
    put(client, "other", &["zoe"]).await;
    let mut stream = Stream::open(client, QUERY).await;
    client.connect("alice").await;
    let event = stream.next().await;
    assert_eq!(event.brief(), "online alice");
    event.id
}

async fn the_missed_events_of_members_come_once(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = cut(&client).await;
    put(&client, "unwatched", &["bob"]).await;
    client.connect("stranger").await;
    client.connect("bob").await;
    client.disconnect("alice").await;
    let mut stream = Stream::resume(&client, QUERY, &cursor).await;
    client.connect("zoe").await;
    let mut seen = briefs(&stream.changes(3).await);
    seen.sort();
    assert_eq!(seen, ["offline alice", "online bob", "online zoe"]);
}

async fn a_group_that_changed_resets_the_stream(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = cut(&client).await;
    client.connect("bob").await;
    patch(&client, "team", &["carol"], &["bob"]).await;
    for (query, snapshot) in [
        (QUERY.to_owned(), false),
        (format!("{QUERY}&snapshot=true"), true),
    ] {
        let mut stream = Stream::resume(&client, &query, &cursor).await;
        let reset = stream.next().await;
        assert_eq!(
            (&*reset.name, &*reset.reason()),
            ("presence.reset", "group-changed")
        );
        if snapshot {
            let mut messages = stream
                .collect_until(|event| event.name == "presence.ready")
                .await;
            messages.pop();
            let team = messages
                .iter()
                .find(|event| event.json()["groupId"] == "team");
            let team = team.expect("a snapshot of the group");
            assert_eq!(
                (team.json()["members"].as_u64(), team.online()),
                (Some(2), vec!["alice".to_owned()])
            );
        }
        client.connect("carol").await;
        assert_eq!(stream.next().await.brief(), "online carol");
        client.disconnect("carol").await;
        assert_eq!(stream.next().await.brief(), "offline carol");
    }
    // The other group did not change.
    let mut stream = Stream::resume(&client, "?groupIds=other", &cursor).await;
    client.connect("zoe").await;
    assert_eq!(stream.next().await.brief(), "online zoe");
}

async fn many_missed_events_come_in_order(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = cut(&client).await;
    for round in 0..400 {
        let user = ["bob", "stranger", "zoe"][round % 3];
        match round / 3 % 2 {
            0 => drop(client.connect(user).await),
            _ => drop(client.disconnect(user).await),
        }
    }
    let mut stream = Stream::resume(&client, QUERY, &cursor).await;
    let events = stream.changes(266).await;
    let histories = alternating(&events);
    let lengths = histories
        .iter()
        .map(|(user, history)| (&**user, history.len()));
    assert_eq!(lengths.collect::<Vec<_>>(), [("bob", 133), ("zoe", 133)]);
}

#[tokio::test]
async fn a_stream_resumes_on_another_instance() {
    let deployment = Deployment::of(2, Settings::new()).await;
    let clients = deployment.clients();
    let cursor = cut(&clients[0]).await;
    clients[0].connect("bob").await;
    let mut stream = Stream::resume(&clients[1], QUERY, &cursor).await;
    assert_eq!(stream.next().await.brief(), "online bob");
    patch(&clients[0], "team", &[], &["bob"]).await;
    let left = stream.next().await;
    assert_eq!(left.name, "group.left");
    // The stream has the change, and resumes after it.
    clients[1].disconnect("alice").await;
    let mut stream = Stream::resume(&clients[0], QUERY, &left.id).await;
    assert_eq!(stream.next().await.brief(), "offline alice");
}

on_both_stores!(
    the_missed_events_of_members_come_once,
    a_group_that_changed_resets_the_stream,
    many_missed_events_come_in_order,
);
