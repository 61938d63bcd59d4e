//! Requests that are incomplete when the drain begins.

use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// A drain time that is far longer than anything in these tests.
const DRAIN: &str = "20s";
const SOON: Duration = Duration::from_secs(8);

/// The time in which the service has read what was sent.
const MOMENT: Duration = Duration::from_millis(300);

/// The receive buffer of a client that reads slowly, in bytes.
const SMALL_BUFFER: u32 = 16 * 1_024;

async fn begun(instance: &Instance, request: &str) -> TcpStream {
    let client = instance.told(request.as_bytes()).await;
    sleep(MOMENT).await;
    client
}

#[tokio::test]
async fn an_incomplete_head_does_not_delay_the_end() {
    let settings = Settings::new().with("PRESENCE_DRAIN", DRAIN);
    let mut instance = Instance::start(&settings).await;
    let first = begun(&instance, "POST /v1/users/al").await;
    let second = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nPOST /v1/users/al";
    let second = begun(&instance, second).await;
    let began = Instant::now();
    instance.send(Signal::Terminate);
    assert_eq!(instance.exit().await.code(), Some(0));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop((first, second));
}

#[tokio::test]
async fn a_request_whose_head_has_begun_is_answered_during_the_drain() {
    let settings = Settings::new().with("PRESENCE_DRAIN", DRAIN);
    let mut instance = Instance::start(&settings).await;
    let mut client = begun(&instance, "POST /v1/users/alice/ping HTTP/1.1\r\nHo").await;
    instance.send(Signal::Terminate);
    sleep(MOMENT).await;
    client
        .write_all(b"st: localhost\r\n\r\n")
        .await
        .expect("a write");
    let mut answer = Vec::new();
    let read = timeout(SOON, client.read_to_end(&mut answer)).await;
    read.expect("an end").expect("a clean end");
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(instance.exit().await.code(), Some(0));
}

/// The script is larger than the buffers of the sockets, because the client has a small one.
#[tokio::test]
async fn a_slow_reader_gets_the_rest_of_its_answer() {
    let settings = Settings::new().with("PRESENCE_DRAIN", DRAIN);
    let mut instance = Instance::start(&settings).await;
    let request = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(SMALL_BUFFER).expect("a size");
    let client = socket.connect(instance.address()).await;
    let mut client = client.expect("a connection");
    let asked = client.write_all(request.as_bytes()).await;
    asked.expect("a write");
    sleep(MOMENT).await;
    instance.send(Signal::Terminate);
    sleep(Duration::from_secs(4)).await;
    let mut answer = Vec::new();
    let read = timeout(SOON, client.read_to_end(&mut answer)).await;
    read.expect("an end").expect("a clean end");
    let head = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    let (head, body) = (
        String::from_utf8_lossy(&answer[..head]),
        answer.len() - head - 4,
    );
    assert!(body > 256 * 1_024, "{body} bytes are no slow answer");
    assert!(
        head.contains(&format!("content-length: {body}")),
        "{body} bytes of {head}"
    );
    assert_eq!(instance.exit().await.code(), Some(0));
}
