//! A stream that does not read.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::client::{Client, crowd};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::Settings;
use harness::sse::{Event, Stream, briefs};
use tokio::task::JoinSet;

use super::unread_answers::ask_and_not_read;

/// The longest time until a closed socket reports its end.
const GOODBYE: Duration = Duration::from_secs(10);

/// The end of a chunked body.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

pub(super) fn mute_reader(address: SocketAddr, query: &str) -> TcpStream {
    let request = format!("GET /v1/events{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ask_and_not_read(address, &request)
}

/// Causes events until the stream without a reader is cut off, and returns the events on `attentive`.
async fn flood_until_cut_off(client: &Client, attentive: &mut Stream) -> Vec<Event> {
    let mut heard = Vec::new();
    for _ in 0..60 {
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            callers.spawn(come_and_go(client.clone(), caller));
        }
        callers.join_all().await;
        heard.extend(attentive.changes(8 * 2 * 30).await);
        // A call that waits for the reader fails with the time-out of the client.
        client.connect("marker").await;
        client.disconnect("marker").await;
        heard.extend(attentive.changes(2).await);
        if client.metric("presence_streams").await == Some(1) {
            return heard;
        }
    }
    panic!("{} events did not fill its queue", heard.len());
}

async fn come_and_go(client: Client, caller: usize) {
    // Long ids make long events, which fill the buffers early.
    for user in crowd(&format!("{}{caller}", "x".repeat(100)), 30) {
        client.connect(&user).await;
        client.disconnect(&user).await;
    }
}

/// Reads the rest of the stream, and returns the last cursor in a complete block.
fn last_cursor(mut mute: TcpStream) -> String {
    mute.set_read_timeout(Some(GOODBYE)).expect("a time");
    let mut sent = Vec::new();
    let mut buffer = [0; 16_384];
    while !sent.ends_with(LAST_CHUNK) {
        match mute.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => sent.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("after {} bytes it was not cut off: {error}", sent.len()),
        }
    }
    let body = without_chunks(&sent);
    let whole = body.rfind("\n\n").map_or("", |end| &body[..end]);
    let from = whole.rfind("id: ").expect("a cursor was sent") + "id: ".len();
    let cursor = whole[from..].lines().next();
    cursor.unwrap_or_default().to_owned()
}

/// The body of a chunked answer (RFC 9112, section 7.1), up to the first incomplete chunk.
fn without_chunks(answer: &[u8]) -> String {
    let answer = String::from_utf8_lossy(answer);
    let (_, mut rest) = answer.split_once("\r\n\r\n").expect("a head");
    let mut body = String::new();
    while let Some((size, chunk)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
        let Some(whole) = chunk.get(..size) else {
            break;
        };
        body.push_str(whole);
        rest = chunk[size..].strip_prefix("\r\n").unwrap_or("");
    }
    body
}

async fn a_reader_that_does_not_read_is_cut_off_and_delays_no_other_client(store: Store) {
    let deployment = Deployment::with(store, Settings::new()).await;
    let client = deployment.client();
    let mut attentive = Stream::open(&client, "").await;
    let mute = mute_reader(deployment.instances[0].address(), "");
    let heard = flood_until_cut_off(&client, &mut attentive).await;
    let cursor = last_cursor(mute);
    let mut resumed = Stream::resume(&client, "", &cursor).await;
    let rest = resumed.events_before_now(&client, "end").await;
    assert!(!rest.is_empty(), "the stream was cut off before its end");
    let missed = &heard[heard.len() - rest.len()..];
    assert_eq!(briefs(&rest), briefs(missed), "the events after the cursor");
    let told_before = heard.len() - rest.len();
    assert!(told_before == 0 || heard[told_before - 1].id == cursor);
}

/// A stream in its snapshot is not live, so the hub does not send it the reset.
#[tokio::test]
async fn a_reader_in_the_middle_of_its_snapshot_gets_a_reset_when_data_is_lost() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let client = deployment.client();
    let users = crowd(&"x".repeat(120), 5_000);
    client.connect_each(&users).await;
    let mut mute = mute_reader(deployment.instances[0].address(), "?snapshot=true");
    mute.set_read_timeout(Some(GOODBYE)).expect("a time");
    let mut sent = vec![0; 1_024];
    // The snapshot has begun, and it is longer than the buffers of the sockets.
    mute.read_exact(&mut sent).expect("a snapshot");
    let mut attentive = Stream::open(&client, "").await;
    deployment.redis().flush_all().await;
    assert_eq!(attentive.next().await.name, "presence.reset");

    let mut buffer = [0; 16_384];
    while !String::from_utf8_lossy(&sent).contains("event: presence.reset") {
        let count = mute.read(&mut buffer).expect("a reset");
        assert_ne!(count, 0, "the stream ended");
        sent.extend_from_slice(&buffer[..count]);
    }
}

on_both_stores!(a_reader_that_does_not_read_is_cut_off_and_delays_no_other_client,);
