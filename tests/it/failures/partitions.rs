//! Streams over several partitions: the loss of one, and a change of the instance in the midst of events.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use harness::client::{Client, crowd};
use harness::deployment::Deployment;
use harness::instance::{Instance, Settings};
use harness::sse::{Event, Stream, briefs};
use tokio::time::sleep;

/// By then a look at the data has found a loss, and the streams were reset.
const NOTICED: Duration = Duration::from_millis(2_500);

/// The longest cursor of 64 partitions.
const LONGEST_CURSOR: usize = 350;

async fn two_instances(partitions: &str) -> Deployment {
    Deployment::on_one_server(2, Settings::new().with("PRESENCE_PARTITIONS", partitions)).await
}

/// A user whose partition is not the one of `user`.
fn stranger(deployment: &Deployment, user: &str) -> String {
    let names = deployment.names();
    let others = (0..).map(|number| format!("stranger-{number}"));
    let is_stranger = |other: &String| names.partition_of(other) != names.partition_of(user);
    { others }.find(is_stranger).expect("a stranger")
}

/// Deletes all keys of the partition of `user`.
async fn lose_the_partition(deployment: &Deployment, user: &str) {
    let key = deployment.names().key("", user);
    let keys: Vec<String> = deployment
        .redis()
        .command(&["KEYS", &format!("{key}*")])
        .await;
    assert!(!keys.is_empty(), "no key begins with {key}");
    deployment.redis().sum("DEL", &keys, &[]).await;
}

/// The names and reasons of the resets that a stream has received since.
fn resets(stream: &mut Stream) -> Vec<String> {
    let unread = stream.unread();
    let resets = unread.iter().filter(|event| event.name == "presence.reset");
    resets.map(Event::reason).collect()
}

#[tokio::test]
async fn a_partition_that_lost_its_data_resets_only_the_streams_that_watch_it() {
    let deployment = two_instances("16").await;
    let clients = deployment.clients();
    let stranger = stranger(&deployment, "alice");
    let both = format!("?userIds=alice,{stranger}");
    let (of_alice, of_stranger) = ("?userIds=alice", format!("?userIds={stranger}"));
    let (mut watching, mut others) = (Vec::new(), Vec::new());
    for client in &clients {
        for query in ["", of_alice, &*both] {
            watching.push(Stream::open(client, query).await);
        }
        others.push(Stream::open(client, &of_stranger).await);
    }
    let mut with_snapshot = Stream::open(&clients[0], &format!("{both}&snapshot=true")).await;
    assert!(with_snapshot.snapshot().await.is_empty());
    clients[0].connect("alice").await;
    clients[0].connect(&stranger).await;
    with_snapshot.changes(2).await;
    for stream in &mut watching {
        stream.changes(1).await;
    }
    for stream in &mut others {
        stream.changes(1).await;
    }
    sleep(NOTICED).await;
    let cursors = [watching[1].last_id(), others[0].last_id()];
    watching.iter_mut().for_each(|stream| drop(stream.unread()));
    lose_the_partition(&deployment, "alice").await;
    sleep(NOTICED).await;
    for stream in &mut watching {
        assert_eq!(resets(stream), ["data-lost"]);
    }
    for stream in &mut others {
        assert_eq!(resets(stream), [""; 0]);
    }
    let reset = with_snapshot.next().await;
    assert_eq!(
        (&*reset.name, &*reset.reason()),
        ("presence.reset", "data-lost")
    );
    assert_eq!(with_snapshot.snapshot().await, [&*stranger]);
    clients[1].disconnect(&stranger).await;
    for stream in others.iter_mut().chain([&mut with_snapshot]) {
        assert_eq!(stream.next().await.brief(), format!("offline {stranger}"));
    }
    for client in &clients {
        let mut resumed = Stream::resume(client, of_alice, &cursors[0]).await;
        assert_eq!(resumed.next().await.reason(), "data-lost");
        let mut resumed = Stream::resume(client, &of_stranger, &cursors[1]).await;
        assert_eq!(resumed.next().await.brief(), format!("offline {stranger}"));
    }
}

#[tokio::test]
async fn the_loss_of_all_partitions_resets_every_stream_once() {
    let deployment = two_instances("64").await;
    let clients = deployment.clients();
    let users = crowd("user", 200);
    clients[0].connect_each(&users).await;
    let mut streams = Vec::new();
    for client in &clients {
        streams.push(Stream::open(client, "").await);
        streams.push(Stream::open(client, &format!("?userIds={}", users[..20].join(","))).await);
    }
    sleep(NOTICED).await;
    deployment.redis().flush_all().await;
    sleep(NOTICED).await;
    for stream in &mut streams {
        assert_eq!(resets(stream), ["data-lost"]);
    }
    clients[1].connect(&users[7]).await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.brief(), format!("online {}", users[7]));
    }
}

/// The next `count` changes, in the order in which they came.
async fn as_they_came(stream: &mut Stream, count: usize) -> Vec<Event> {
    let mut changes = 0;
    let is_last = |event: &Event| {
        changes += usize::from(event.is_change());
        changes == count
    };
    let mut events = match count {
        0 => Vec::new(),
        _ => stream.collect_until(is_last).await,
    };
    events.retain(Event::is_change);
    events
}

/// The events of each user, in order.
fn of_each_user(events: &[Event]) -> BTreeMap<String, Vec<String>> {
    let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.is_change()) {
        histories
            .entry(event.user())
            .or_default()
            .push(event.brief());
    }
    histories
}

/// Both instances receive the events of the partitions in different orders.
async fn come_and_go(clients: &[Client], users: &[String]) {
    let comings = users.iter().zip(clients.iter().cycle());
    join_all(comings.map(async |(user, client)| {
        client.connect(user).await;
        client.disconnect(user).await;
    }))
    .await;
}

#[tokio::test]
async fn every_cursor_of_an_instance_resumes_on_the_other_one() {
    let deployment = two_instances("64").await;
    let clients = deployment.clients();
    let users = crowd("user", 60);
    let listed = format!("?userIds={}", users[..30].join(","));
    for query in ["", &*listed] {
        let mut stream = Stream::open(&clients[0], query).await;
        come_and_go(&clients, &users).await;
        let count = if query.is_empty() { 120 } else { 60 };
        let told = as_they_came(&mut stream, count).await;
        assert!(told.iter().all(|event| event.id.len() <= LONGEST_CURSOR));
        let resumed = told
            .iter()
            .enumerate()
            .step_by(5)
            .map(async |(number, event)| {
                let missed = &told[number + 1..];
                let mut stream = Stream::resume(&clients[1], query, &event.id).await;
                let events = as_they_came(&mut stream, missed.len()).await;
                assert_eq!(
                    of_each_user(&events),
                    of_each_user(missed),
                    "after {number}"
                );
                assert!(stream.unread().iter().all(Event::is_routine));
                // The cursors in the midst of the missed events resume on the first instance.
                let Some(last) = events.get(events.len() / 3) else {
                    return;
                };
                let mut stream = Stream::resume(&clients[0], query, &last.id).await;
                let missed = &events[events.len() / 3 + 1..];
                let events = as_they_came(&mut stream, missed.len()).await;
                assert_eq!(
                    of_each_user(&events),
                    of_each_user(missed),
                    "after {number}"
                );
            });
        join_all(resumed).await;
    }
}

#[tokio::test]
async fn a_cursor_of_another_number_of_partitions_is_answered_with_a_reset() {
    let mut cursors: Vec<String> = Vec::new();
    for partitions in ["1", "16", "64"] {
        let deployment =
            Deployment::on_one_server(1, Settings::new().with("PRESENCE_PARTITIONS", partitions))
                .await;
        let client = deployment.client();
        client.connect("alice").await;
        for cursor in &cursors {
            let mut stream = Stream::resume(&client, "", cursor).await;
            assert_eq!(stream.next().await.reason(), "layout-changed");
            client.ping("alice").await;
            assert!(stream.unread().iter().all(Event::is_routine));
        }
        cursors.push(Stream::open(&client, "").await.last_id());
    }
    let embedded = Instance::start(&Settings::new()).await;
    let client = embedded.client();
    let mut stream = Stream::resume(&client, "?snapshot=true", &cursors[2]).await;
    assert_eq!(briefs(&[stream.next().await]), ["presence.reset"]);
    assert!(stream.snapshot().await.is_empty());
}
