//! Streams that their clients close and resume during traffic.

use harness::client::{Client, crowd};
use harness::cluster::{Cluster, Store, on_both_stores};
use harness::instance::Settings;
use harness::sse::{Event, Stream};

use crate::failures::traffic::Traffic;

/// Name and data of the events, without the opaque ids.
fn told(events: &[Event]) -> Vec<(&str, &str)> {
    let told = events.iter().map(|event| (&*event.name, &*event.data));
    told.collect()
}

/// Reads 25 events at a time, each piece from the cursor of the piece before, at the instances in turn.
async fn in_pieces(clients: &[Client], mut cursor: String, pieces: usize) -> Vec<Event> {
    let mut heard: Vec<Event> = Vec::new();
    for client in clients.iter().cycle().take(pieces) {
        let mut stream = Stream::resume(client, "", &cursor).await;
        for _ in 0..25 {
            let event = stream.next().await;
            assert!(event.is_change(), "{event:?}");
            cursor.clone_from(&event.id);
            heard.push(event);
        }
    }
    heard
}

async fn a_stream_that_is_cut_repeatedly_loses_no_event(store: Store) {
    let cluster = match store {
        Store::Embedded | Store::EmbeddedOver(_) => Cluster::start(store).await,
        Store::Redis => Cluster::of(3, Settings::new()).await,
    };
    let clients = cluster.clients();
    let mut whole = Stream::open(&clients[0], "").await;
    let cursor = whole.last_id();
    let traffic = Traffic::start(6, &crowd("user", 20), &clients);
    let pieces = in_pieces(&clients, cursor, 60).await;
    traffic.stop().await;
    let whole = whole.changes(pieces.len()).await;
    assert_eq!(told(&pieces), told(&whole));
}

/// A filtered stream also gets every event of its users.
async fn a_filtered_stream_that_is_cut_repeatedly_loses_no_event(store: Store) {
    let cluster = match store {
        Store::Embedded | Store::EmbeddedOver(_) => Cluster::start(store).await,
        Store::Redis => Cluster::of(2, Settings::new()).await,
    };
    let clients = cluster.clients();
    let query = "?userIds=user-00003,user-00007,marker";
    let mut whole = Stream::open(&clients[0], query).await;
    let mut cursor = whole.last_id();
    let traffic = Traffic::start(4, &crowd("user", 10), &clients);
    let mut pieces = Vec::new();
    for client in clients.iter().cycle().take(40) {
        let mut stream = Stream::resume(client, query, &cursor).await;
        pieces.push(stream.next().await);
        cursor = pieces[pieces.len() - 1].id.clone();
    }
    traffic.stop().await;
    let whole = whole.changes(pieces.len()).await;
    assert_eq!(told(&pieces), told(&whole));
}

on_both_stores!(
    a_stream_that_is_cut_repeatedly_loses_no_event,
    a_filtered_stream_that_is_cut_repeatedly_loses_no_event,
);
