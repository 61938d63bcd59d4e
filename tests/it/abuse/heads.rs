//! Heads that are too large, and idle connections after large heads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use harness::client::{Client, Protocol};
use harness::instance::{Instance, Settings, workers};
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::Value;
use tokio::time::sleep;

/// The number of kept connections, and the memory that each may cost while idle, in KiB: a socket, a task, a timer, and
/// what the allocator cannot return of the buffers.
const KEPT: usize = 2_000;
const KIB_EACH: u64 = 12;

/// Sends a request with a head of about `head_bytes` bytes, and returns the answer.
fn ask(connection: &mut TcpStream, head_bytes: usize) -> String {
    let patience = Some(Duration::from_secs(20));
    connection.set_read_timeout(patience).expect("a time");
    let junk = "x".repeat(head_bytes);
    let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Junk: {junk}\r\n\r\n");
    // The service may refuse the head before all of it is sent.
    let _ = connection.write_all(request.as_bytes());
    let mut answer = vec![0; 4_096];
    let count = connection.read(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_more_than_16_kib_is_refused_by_a_problem_document() {
    let instance = Instance::start(&Settings::new()).await;
    for bytes in [17_000, 62_000, 200_000] {
        let mut connection = TcpStream::connect(instance.address()).expect("a connection");
        assert!(ask(&mut connection, 15_000).starts_with("HTTP/1.1 200 "));
        let answer = ask(&mut connection, bytes);
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains("application/problem+json"), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        let problem: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(problem["type"], "urn:presence:problem:head-too-large");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_too_many_fields_is_refused_with_this_reason() {
    let instance = Instance::start(&Settings::new()).await;
    let mut request = instance.client().request(Method::GET, "/livez");
    for number in 0..120 {
        request = request.header(format!("X-{number}"), "y");
    }
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 431);
    let body = answer.text().await.expect("a body");
    assert!(body.contains("more than 100 fields"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_frees_its_buffers_and_goes_on() {
    let instance = Instance::start(&Settings::new()).await;
    let connect = || TcpStream::connect(instance.address()).expect("a connection");
    // Memory that the process allocates the first time stays allocated.
    for _ in 0..KEPT {
        ask(&mut connect(), 15_000);
    }
    sleep(Duration::from_secs(2)).await;
    let before = instance.resident_kib();
    // A connection without a request is closed after some seconds, so each one sends its request at once.
    let mut kept = Vec::new();
    for _ in 0..KEPT {
        let mut connection = connect();
        assert!(ask(&mut connection, 15_000).starts_with("HTTP/1.1 200 "));
        kept.push(connection);
    }
    eventually_true("the buffers are given back", async || {
        // The allocator returns the memory of a worker when this worker uses it. New connections go to all workers.
        let mut others: Vec<TcpStream> = (0..2 * workers()).map(|_| connect()).collect();
        for connection in &mut others {
            assert!(ask(connection, 100).starts_with("HTTP/1.1 200 "));
        }
        let more = instance.resident_kib().saturating_sub(before);
        more <= KIB_EACH * KEPT as u64
    })
    .await;
    for connection in &mut kept {
        assert!(ask(connection, 100).starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_and_split_requests_are_all_answered() {
    let instance = Instance::start(&Settings::new()).await;
    let mut connection = TcpStream::connect(instance.address()).expect("a connection");
    let patience = Some(Duration::from_secs(20));
    connection.set_read_timeout(patience).expect("a time");
    let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // One and a half requests, a pause, and then the rest and another request.
    let (half, rest) = request.split_at(20);
    let mut answers = String::new();
    let mut bytes = [0; 4_096];
    for (sent, pause) in [
        ([request, half].concat(), 2_500),
        ([rest, request].concat(), 0),
    ] {
        connection.write_all(sent.as_bytes()).expect("a write");
        sleep(Duration::from_millis(pause)).await;
    }
    while answers.matches("HTTP/1.1 200 ").count() < 3 {
        let count = connection.read(&mut bytes).expect("an answer");
        assert_ne!(count, 0, "not all answers: {answers}");
        answers.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

/// The refusal of a list of ids that is too long for a query names the alternative, and a page can read it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_long_query_names_the_call_with_a_body() {
    let settings = Settings::new().with("PRESENCE_CORS_ORIGINS", "https://app.example.com");
    for protocol in [Protocol::Http11, Protocol::Http2] {
        let instance = Instance::start(&settings).await;
        let client = Client::over(protocol, instance.client().base());
        too_long_a_query_is_refused(&client).await;
    }
}

async fn too_long_a_query_is_refused(client: &Client) {
    let ids = |count: usize| vec!["0190f5d4-7c1b-7e3a-9b6e-3f2a1c4d5e6f"; count].join(",");
    let ask = |count: usize| {
        let path = format!("/v1/events?userIds={}", ids(count));
        let request = client.request(Method::GET, &path);
        request.header("Origin", "https://app.example.com").send()
    };
    // The client refuses URLs of more than 64 KiB.
    for count in [450, 1_000, 1_700] {
        let answer = ask(count).await.expect("an answer");
        assert_eq!(answer.status(), 431);
        let allowed = &answer.headers()["access-control-allow-origin"];
        assert_eq!(allowed, "*");
        let body = answer.text().await.expect("a body");
        assert!(
            body.ends_with("}\n") && body.contains("POST /v1/events"),
            "{body}"
        );
    }
    assert_eq!(ask(400).await.expect("an answer").status(), 200);
}
