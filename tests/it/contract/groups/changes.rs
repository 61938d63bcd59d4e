//! Streams that open while members and users change.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::client::{Client, crowd};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::groups::{get, online, patch, put};
use harness::sse::{Event, Stream};
use harness::timestamp::Timestamp;

/// What a stream told about a group: its members that are online, and the number of all members.
#[derive(Default)]
struct Known {
    online: BTreeSet<String>,
    members: Option<u64>,
}

impl Known {
    fn apply(&mut self, event: &Event) {
        let data = event.json();
        let ids = |field: &str| {
            let ids = data[field].as_array().cloned().unwrap_or_default();
            let ids = ids.into_iter();
            ids.map(|id| id.as_str().expect("an id").to_owned())
        };
        match &*event.name {
            "presence.snapshot" => {
                self.members = data["members"].as_u64();
                self.online.extend(ids("online"));
            }
            "group.joined" => {
                self.members = self
                    .members
                    .map(|count| count + ids("userIds").len() as u64);
                self.online.extend(ids("online"));
            }
            "group.left" => {
                for user in ids("userIds") {
                    self.members = self.members.map(|count| count - 1);
                    self.online.remove(&user);
                }
            }
            "user.online" => {
                let is_new = self.online.insert(event.user());
                assert!(is_new, "{event:?} comes twice");
            }
            "user.offline" => {
                let was_online = self.online.remove(&event.user());
                assert!(was_online, "{event:?} without user.online");
            }
            _ => {}
        }
    }
}

/// Connects and disconnects users, and adds and removes members.
async fn change(client: Client) {
    let users = crowd("user", 12);
    for round in 0..300 {
        let user = &*users[round * 7 % users.len()];
        let other = &*users[round * 5 % users.len()];
        match round % 5 {
            0 => drop(client.connect(user).await),
            1 => drop(patch(&client, "team", &[user], &[]).await),
            2 => drop(patch(&client, "team", &[], &[other]).await),
            3 => drop(client.disconnect(other).await),
            _ => drop(client.connect(other).await),
        }
    }
}

/// Afterwards every stream has the state that the reads have.
async fn a_stream_knows_at_each_time_who_is_online(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut streams = Vec::new();
    let traffic = tokio::spawn(change(client.clone()));
    while !traffic.is_finished() && streams.len() < 20 {
        streams.push(Stream::open(&client, "?groupIds=team,markers&snapshot=true").await);
        Timestamp::now()
            .plus(Duration::from_millis(40))
            .pass()
            .await;
    }
    traffic.await.expect("no panic");
    put(&client, "markers", &["marker"]).await;
    let expected: BTreeSet<_> = online(&client, "team", 100).await.into_iter().collect();
    let members = get(&client, "team").await.members as u64;
    client.connect("marker").await;
    for stream in &mut streams {
        let events = stream.collect_until(|event| event.user() == "marker").await;
        let mut known = Known::default();
        for event in &events {
            if event.json()["groupId"] != "markers" && event.user() != "marker" {
                known.apply(event);
            }
        }
        assert_eq!(known.online, expected);
        assert_eq!(known.members, Some(members));
    }
}

on_both_stores!(a_stream_knows_at_each_time_who_is_online);
