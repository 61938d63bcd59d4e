//! Snapshots: the online users, then every later change without a gap.

use std::collections::BTreeSet;

use harness::client::{Client, crowd};
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::sse::{Event, Stream, alternating, briefs, late_events};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

async fn a_snapshot_lists_the_online_users(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for user in ["alice", "bob", "carol"] {
        client.connect(user).await;
    }
    client.disconnect("carol").await;
    let mut stream = Stream::open(&client, "?snapshot=true").await;
    assert_eq!(stream.snapshot().await, ["alice", "bob"]);
    client.connect("dave").await;
    client.disconnect("alice").await;
    let changes = stream.changes(2).await;
    assert_eq!(briefs(&changes), ["online dave", "offline alice"]);
}

async fn a_snapshot_has_the_documented_form(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("bob").await;
    let mut stream = Stream::open(&client, "?userIds=alice,bob&snapshot=true").await;
    let snapshot = stream.next().await;
    assert_eq!(snapshot.name, "presence.snapshot");
    assert_eq!(snapshot.json(), json!({"online": ["bob"]}));
    assert!(!snapshot.id.is_empty());
    let ready = stream.next().await;
    assert_eq!(ready.name, "presence.ready");
    assert!(!ready.id.is_empty());
    assert!(ready.json().is_object());
}

async fn a_snapshot_of_a_filtered_stream_has_only_its_users(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for user in ["alice", "bob", "carol"] {
        client.connect(user).await;
    }
    let mut by_get = Stream::open(&client, "?userIds=alice,dave,carol&snapshot=true").await;
    assert_eq!(by_get.snapshot().await, ["alice", "carol"]);
    let body = json!({"userIds": ["bob", "dave"], "snapshot": true});
    let request = client.request(Method::POST, "/v1/events").json(&body);
    let mut by_post = Stream::send(request).await;
    assert_eq!(by_post.snapshot().await, ["bob"]);
}

async fn a_stream_with_an_empty_snapshot_is_ready(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for query in ["?snapshot=true", "?snapshot=true&userIds=alice"] {
        let mut stream = Stream::open(&client, query).await;
        assert!(stream.snapshot().await.is_empty());
    }
}

async fn no_snapshot_is_sent_by_default(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    for (round, query) in ["", "?snapshot=false", "?userIds=alice,marker-2"]
        .iter()
        .enumerate()
    {
        let mut stream = Stream::open(&client, query).await;
        let events = stream
            .events_before_now(&client, &format!("marker-{round}"))
            .await;
        assert!(events.is_empty(), "{events:?}");
    }
}

async fn a_large_snapshot_has_several_messages(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let users = crowd("user", 5_000);
    client.connect_each(&users).await;
    let mut stream = Stream::open(&client, "?snapshot=true").await;
    let mut messages = stream
        .collect_until(|event| event.name == "presence.ready")
        .await;
    messages.pop();
    assert!(messages.len() > 1, "5,000 users in one message");
    let mut online: Vec<String> = messages.iter().flat_map(Event::online).collect();
    online.sort_unstable();
    assert_eq!(online, users);
}

/// Streams that open while users come and go end with the right state.
async fn a_snapshot_and_the_later_changes_give_the_online_users(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal().with("PRESENCE_TTL", "60s")).await;
    add_up_in_the_midst_of_traffic(&deployment, "").await;
}

#[tokio::test]
async fn a_snapshot_and_the_changes_of_other_instances_give_the_online_users() {
    let deployment = Deployment::of(3, Settings::new()).await;
    add_up_in_the_midst_of_traffic(&deployment, "").await;
}

#[tokio::test]
async fn a_filtered_snapshot_and_the_later_changes_give_the_online_users() {
    let deployment = Deployment::of(3, Settings::new()).await;
    let asked = "&userIds=last,stayer-00007,traveller-0-0,traveller-1-3,traveller-2-9,nobody";
    add_up_in_the_midst_of_traffic(&deployment, asked).await;
}

/// `asked` is appended to the query of each stream. Without it the streams are about all users.
async fn add_up_in_the_midst_of_traffic(deployment: &Deployment, asked: &str) {
    let clients = deployment.clients();
    deployment
        .client()
        .connect_each(&crowd("stayer", 300))
        .await;
    let traffic: Vec<_> = clients
        .iter()
        .cycle()
        .take(4)
        .enumerate()
        .map(come_and_go)
        .collect();
    let mut streams = Vec::new();
    for client in clients.iter().cycle().take(60) {
        let mut stream = Stream::open(client, &format!("?snapshot=true{asked}")).await;
        let online = stream.snapshot().await;
        streams.push((stream, online));
    }
    traffic.iter().for_each(JoinHandle::abort);
    for traveller in traffic {
        assert!(traveller.await.is_err_and(|error| error.is_cancelled()));
    }
    settle(&deployment.client()).await;
    let mut truth: BTreeSet<String> = deployment.client().everyone().await.into_iter().collect();
    truth.retain(|user| asked.is_empty() || asked.contains(user.as_str()));
    for (stream, online) in &mut streams {
        let mut events = stream.collect_until(|event| event.user() == "last").await;
        late_events().await;
        events.extend(stream.unread());
        assert_eq!(fold(online, &events), truth);
    }
}

/// A caller that connects and disconnects ten users of its own in turn.
fn come_and_go((caller, client): (usize, &Client)) -> JoinHandle<()> {
    let client = client.clone();
    tokio::spawn(async move {
        for round in 0_usize.. {
            let user = format!("traveller-{caller}-{}", round % 10);
            if round % 20 < 10 {
                client.connect(&user).await;
            } else {
                client.disconnect(&user).await;
            }
        }
    })
}

/// A call may still be running after its caller was stopped. One more call for each user makes the final state known.
async fn settle(client: &Client) {
    for caller in 0..4 {
        for user in 0..10 {
            client
                .disconnect(&format!("traveller-{caller}-{user}"))
                .await;
        }
    }
    client.connect("last").await;
}

fn fold(online: &[String], events: &[Event]) -> BTreeSet<String> {
    let mut online: BTreeSet<String> = online.iter().cloned().collect();
    for event in events {
        if event.name == "user.online" {
            online.insert(event.user());
        } else {
            online.remove(&event.user());
        }
    }
    online
}

/// The alternation of a user begins with its state in the snapshot.
async fn changes_after_a_snapshot_do_not_repeat_it(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let traffic = come_and_go((0, &client));
    for _ in 0..30 {
        let mut stream = Stream::open(&client, "?snapshot=true").await;
        let online = stream.snapshot().await;
        let changes = stream.changes(20).await;
        let before = online.iter().map(|user| Event {
            id: "before".to_owned(),
            name: "user.online".to_owned(),
            data: json!({"userId": user}).to_string(),
        });
        let story: Vec<Event> = before.chain(changes).collect();
        alternating(&story);
    }
    traffic.abort();
}

over_each_protocol!(
    a_snapshot_lists_the_online_users,
    a_snapshot_has_the_documented_form,
    a_snapshot_of_a_filtered_stream_has_only_its_users,
    a_stream_with_an_empty_snapshot_is_ready,
    no_snapshot_is_sent_by_default,
    a_large_snapshot_has_several_messages,
    a_snapshot_and_the_later_changes_give_the_online_users,
    changes_after_a_snapshot_do_not_repeat_it,
);
