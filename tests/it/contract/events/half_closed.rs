//! Clients that close their writing side after the request, as `nc` does, or the whole connection.

use std::time::Duration;

use harness::client::Client;
use harness::instance::{Instance, Settings};
use harness::wait::{PATIENCE, eventually_true};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Longer than the service takes to notice that a client is gone.
const MOMENT: Duration = Duration::from_millis(1_500);

/// The request of a stream from a client that closes its writing side afterwards.
async fn half_closed(instance: &Instance, request: &str) -> TcpStream {
    let mut stream = instance.told(request.as_bytes()).await;
    stream.shutdown().await.expect("a connection");
    stream
}

async fn read_until(stream: &mut TcpStream, text: &mut String, wanted: &str) {
    let mut bytes = [0; 4_096];
    while !text.contains(wanted) {
        let read = timeout(PATIENCE, stream.read(&mut bytes)).await;
        let read = read.unwrap_or_else(|_| panic!("{wanted} does not come: {text}"));
        let count = read.expect("the connection does not break");
        assert!(count > 0, "the connection ended without {wanted}: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

async fn there_are_streams(client: &Client, count: usize) {
    let what = format!("there are {count} streams");
    eventually_true(&what, async || {
        client.metric("presence_streams").await == Some(count as u64)
    })
    .await;
}

#[tokio::test]
async fn a_client_that_closes_its_writing_side_gets_the_stream_until_it_closes_the_rest() {
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    let body = r#"{"userIds":["alice"]}"#;
    let length = body.len();
    let requests = [
        "GET /v1/events HTTP/1.0\r\n\r\n".to_owned(),
        "GET /v1/events?snapshot=true HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        format!(
            "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ),
    ];
    let mut streams = Vec::new();
    for request in &requests {
        let mut stream = half_closed(&instance, request).await;
        let mut text = String::new();
        read_until(&mut stream, &mut text, "presence.ready").await;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        streams.push((stream, text));
    }
    sleep(MOMENT).await;
    client.connect("alice").await;
    for (stream, text) in &mut streams {
        read_until(stream, text, "user.online").await;
    }
    there_are_streams(&client, requests.len()).await;
    drop(streams);
    client.disconnect("alice").await;
    there_are_streams(&client, 0).await;
}

#[tokio::test]
async fn a_client_that_closes_its_connection_is_found_gone() {
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    let request = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = instance.told(request.as_bytes()).await;
    let mut text = String::new();
    read_until(&mut stream, &mut text, "presence.ready").await;
    there_are_streams(&client, 1).await;
    drop(stream);
    // No event and no keep-alive is due, so only the end of the connection shows that the client is gone.
    there_are_streams(&client, 0).await;
}

#[tokio::test]
async fn a_client_that_closes_its_writing_side_is_told_why_it_gets_no_stream() {
    let instance = Instance::start(&Settings::new()).await;
    let request = "GET /v1/events?nothing=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = half_closed(&instance, request).await;
    let mut text = String::new();
    read_until(&mut stream, &mut text, "no such query parameter").await;
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
}
