//! Many callers, few users, several instances.

use std::time::Duration;

use crate::client::crowd;
use crate::cluster::Cluster;
use crate::faults::traffic::{Traffic, assert_told_is_what_happened};
use crate::instance::Settings;
use crate::sse::{Stream, briefs};
use crate::timestamp::Timestamp;
use crate::wait::eventually_true;

#[tokio::test]
async fn callers_who_race_are_told_what_the_events_say() {
    let cluster = Cluster::of(3, Settings::mortal()).await;
    let clients = cluster.clients();
    let mut streams = Vec::new();
    for client in &clients {
        streams.push(Stream::open(client, "").await);
    }
    let traffic = Traffic::start(12, &crowd("user", 20), &clients);
    Timestamp::now().plus(Duration::from_secs(4)).pass().await;
    assert!(!traffic.some_unanswered(), "every call is answered");
    let told = traffic.stop().await;
    assert!(
        told.values().map(|(online, _)| online).sum::<usize>() > 100,
        "{told:?}"
    );
    eventually_true("everyone who stayed expires", async || {
        clients[0].count().await == 0
    })
    .await;
    let mut seen = Vec::new();
    for (number, stream) in streams.iter_mut().enumerate() {
        let marker = format!("marker-{number}");
        let events = stream.events_before_now(&clients[number], &marker).await;
        assert_told_is_what_happened(&told, &events);
        seen.push(briefs(&events));
    }
    let shared = seen.iter().map(Vec::len).min().expect("three streams");
    for other in &seen {
        assert_eq!(
            other[..shared],
            seen[0][..shared],
            "every instance tells the same"
        );
    }
}
