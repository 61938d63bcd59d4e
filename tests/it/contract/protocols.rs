//! What is specific to HTTP/1.0 and HTTP/2. The other tests of the contract run over these protocols as `http1_0::name`
//! and `http2::name`.

use std::time::Duration;

use harness::client::Protocol;
use harness::deployment::{Deployment, Store};
use harness::instance::Settings;
use harness::process::Signal;
use harness::sse::{End, Stream};
use harness::wait::PATIENCE;
use reqwest::Version;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Streams on one connection.
const STREAMS: usize = 50;

/// Reads until the text contains `wanted`, or until the end for `None`.
async fn read_until(connection: &mut TcpStream, wanted: Option<&str>) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4_096];
    while !wanted.is_some_and(|wanted| text.contains(wanted)) {
        let read = timeout(PATIENCE, connection.read(&mut bytes)).await;
        let read = read.unwrap_or_else(|_| panic!("{wanted:?} does not come:\n{text}"));
        match read.expect("the connection does not break") {
            0 if wanted.is_none() => break,
            0 => panic!("the connection ended without {wanted:?}:\n{text}"),
            count => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
        }
    }
    text
}

/// HTTP/1.0 has no chunks: the end of the connection is the end of the body, whatever headers the client sent.
#[tokio::test]
async fn a_stream_over_http_1_0_has_no_chunks_and_ends_with_its_connection() {
    let settings = Settings::new().with("PRESENCE_DRAIN", "1s");
    let mut deployment = Deployment::with(Store::Embedded, settings).await;
    let client = deployment.client();
    let mut readers = Vec::new();
    for headers in [
        "",
        "Connection: keep-alive\r\n",
        "Accept: text/event-stream\r\n",
    ] {
        let request = format!("GET /v1/events?snapshot=true HTTP/1.0\r\n{headers}\r\n");
        let mut reader = deployment.instances[0].told(request.as_bytes()).await;
        let begun = read_until(&mut reader, Some("presence.ready")).await;
        let (head, body) = begun.split_once("\r\n\r\n").expect("a whole head");
        let head = head.to_ascii_lowercase();
        assert!(
            head.starts_with("http/1.") && head[8..].starts_with(" 200 "),
            "{head}"
        );
        assert!(
            head.contains("\r\ncontent-type: text/event-stream"),
            "{head}"
        );
        for foreign in ["transfer-encoding", "content-length", "keep-alive"] {
            assert!(!head.contains(foreign), "{foreign} in {head}");
        }
        assert!(!body.contains('\r'), "no size of a chunk: {body:?}");
        readers.push(reader);
    }
    client.connect("alice").await;
    for reader in &mut readers {
        let event = read_until(reader, Some("user.online")).await;
        assert!(!event.contains('\r'), "no size of a chunk: {event:?}");
    }
    deployment.instances[0].send(Signal::Terminate);
    for reader in &mut readers {
        let rest = read_until(reader, None).await;
        assert!(!rest.contains("\r\n"), "no last chunk: {rest:?}");
    }
    assert_eq!(deployment.instances[0].exit().await.code(), Some(0));
}

/// HTTP/1.0 needs no `Host` header. Problem documents are the same as over other versions.
#[tokio::test]
async fn a_call_over_http_1_0_is_answered_and_its_connection_closed() {
    let deployment = Deployment::start(Store::Embedded).await;
    let calls = [
        (
            "POST /v1/users/alice/connect",
            "200",
            "\"becameOnline\":true",
        ),
        ("GET /v1/online?limit=0", "400", "urn:presence:problem:"),
        ("GET /v1/nothing", "404", "urn:presence:problem:"),
    ];
    for (call, status, part) in calls {
        let request = format!("{call} HTTP/1.0\r\n\r\n");
        let answer = deployment.instances[0].answer_to(request.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{answer}"
        );
        assert!(answer.contains(part), "{answer}");
    }
}

#[tokio::test]
async fn many_streams_and_calls_share_one_connection_over_http_2() {
    let settings = Settings::new().with("PRESENCE_DRAIN", "1s");
    let settings = settings.over(Protocol::Http2);
    let mut deployment = Deployment::with(Store::Embedded, settings).await;
    let client = deployment.client();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(Stream::open(&client, "?snapshot=true").await);
    }
    let response = client.of_user("alice", "connect").send().await;
    assert_eq!(response.expect("an answer").version(), Version::HTTP_2);
    // A closed stream does not affect the others.
    streams.truncate(STREAMS - 1);
    client.disconnect("alice").await;
    for stream in &mut streams {
        assert!(stream.snapshot().await.is_empty());
        assert_eq!(stream.next().await.brief(), "online alice");
        assert_eq!(stream.next().await.brief(), "offline alice");
    }
    deployment.instances[0].send(Signal::Terminate);
    for stream in &streams {
        let end = stream.end(Duration::from_secs(15)).await;
        assert_eq!(end, Some(End::Clean), "{}", stream.raw());
    }
    assert_eq!(deployment.instances[0].exit().await.code(), Some(0));
}
