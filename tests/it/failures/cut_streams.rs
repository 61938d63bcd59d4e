//! Streams that their clients close and resume during traffic.

use harness::client::{Client, crowd};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::Settings;
use harness::sse::{Event, Stream, assert_same_changes};

use crate::failures::traffic::Traffic;

/// The pieces of a stream that is closed again and again.
struct Pieces<'a> {
    clients: &'a [Client],
    query: &'a str,
    cursor: String,
    heard: Vec<Event>,
}

impl Pieces<'_> {
    /// Reads `length` events at a time, each piece from the cursor of the piece before, at the instances in turn.
    async fn read(&mut self, pieces: usize, length: usize) {
        for client in self.clients.iter().cycle().take(pieces) {
            let mut stream = Stream::resume(client, self.query, &self.cursor).await;
            for _ in 0..length {
                let event = stream.next().await;
                self.cursor.clone_from(&event.id);
                self.heard.push(event);
            }
        }
    }

    /// Reads the rest in one piece, and compares everything with the stream that was not closed.
    async fn agree_with(mut self, mut whole: Stream) {
        let whole = whole.events_before_now(&self.clients[0], "marker").await;
        let mut rest = Stream::resume(&self.clients[0], self.query, &self.cursor).await;
        let rest = rest.events_before_now(&self.clients[0], "marker-2").await;
        self.heard.extend(rest);
        assert_same_changes(&self.heard, &whole);
    }
}

async fn a_stream_that_is_cut_repeatedly_loses_no_event(store: Store) {
    let deployment = match store {
        Store::Embedded | Store::EmbeddedOver(_) => Deployment::start(store).await,
        Store::Redis => Deployment::of(3, Settings::new()).await,
    };
    let clients = deployment.clients();
    let whole = Stream::open(&clients[0], "").await;
    let mut pieces = Pieces {
        clients: &clients,
        query: "",
        cursor: whole.last_id(),
        heard: Vec::new(),
    };
    let traffic = Traffic::start(6, &crowd("user", 20), &clients);
    pieces.read(60, 25).await;
    traffic.stop().await;
    pieces.agree_with(whole).await;
}

/// A filtered stream also gets every event of its users.
async fn a_filtered_stream_that_is_cut_repeatedly_loses_no_event(store: Store) {
    let deployment = match store {
        Store::Embedded | Store::EmbeddedOver(_) => Deployment::start(store).await,
        Store::Redis => Deployment::of(2, Settings::new()).await,
    };
    let clients = deployment.clients();
    let query = "?userIds=user-00003,user-00007,marker,marker-2";
    let whole = Stream::open(&clients[0], query).await;
    let mut pieces = Pieces {
        clients: &clients,
        query,
        cursor: whole.last_id(),
        heard: Vec::new(),
    };
    let traffic = Traffic::start(4, &crowd("user", 10), &clients);
    pieces.read(40, 1).await;
    traffic.stop().await;
    pieces.agree_with(whole).await;
}

on_both_stores!(
    a_stream_that_is_cut_repeatedly_loses_no_event,
    a_filtered_stream_that_is_cut_repeatedly_loses_no_event,
);
