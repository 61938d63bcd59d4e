//! A reader that does not read.

use std::io::Write;
use std::net::TcpStream;

use crate::client::crowd;
use crate::cluster::{Cluster, Store, on_both_stores};
use crate::instance::Settings;
use crate::sse::Stream;

async fn a_reader_that_does_not_read_is_cut_off_and_slows_nobody(store: Store) {
    let cluster = Cluster::with(store, Settings::new()).await;
    let client = cluster.client();
    let mut mute = TcpStream::connect(cluster.instances[0].address()).expect("it accepts");
    let request = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    mute.write_all(request).expect("a request");
    let mut attentive = Stream::open(&client, "").await;
    // Long ids make long events, so that the buffers of the mute reader fill soon.
    let long = "x".repeat(100);
    let users = crowd(&long, 250);
    let mut cut_off = false;
    for _ in 0..60 {
        client.connect_each(&users).await;
        for user in &users {
            client.disconnect(user).await;
        }
        attentive.changes(2 * users.len()).await;
        let metrics = client.get("/metrics").await.body;
        cut_off = metrics.contains("presence_streams_cut_off_total 1");
        if cut_off {
            break;
        }
    }
    assert!(cut_off, "30,000 events did not fill its queue");
    drop(mute);
}

on_both_stores!(a_reader_that_does_not_read_is_cut_off_and_slows_nobody,);
