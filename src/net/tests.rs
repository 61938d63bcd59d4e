mod http2;
mod permits;
mod places;
mod resets;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::{Admission, Front};
use crate::memory_budget::MemoryBudget;
use crate::telemetry::Metrics;

async fn ask(client: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.write_all(request.as_bytes()).await.expect("a write");
    let mut answer = [0; 2_048];
    let count = client.read(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

/// A client of a listener that answers with `router`.
async fn client(router: Router) -> TcpStream {
    let address = serving(vec![worker(router)]).await;
    TcpStream::connect(address).await.expect("a connection")
}

fn worker(router: Router) -> Worker {
    Worker::new(Handle::current(), Front::new(router))
}

async fn serving(workers: Vec<Worker>) -> SocketAddr {
    let drain = CancellationToken::new();
    let (address, listener) = listener(workers, 2_000, Admission::new(1), &drain).await;
    tokio::spawn(listener.run());
    address
}

/// A listener with at most `connections`, which accepts none yet.
async fn listener(
    workers: Vec<Worker>,
    connections: u32,
    admission: Admission,
    drain: &CancellationToken,
) -> (SocketAddr, Listener) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    let limits = ListenerLimits {
        connections,
        keep_alive: Duration::from_secs(75),
        memory: MemoryBudget::of(0),
    };
    let (admission, metrics) = (Arc::new(admission), Arc::new(Metrics::new()));
    let drain = drain.clone();
    let listener = Listener::new(socket, workers, limits, admission, metrics, drain);
    (address, listener)
}

#[tokio::test]
async fn connections_are_spread_by_load_and_idle_ones_do_not_count() {
    let names = ["first", "second"];
    let workers = names.map(|name| worker(Router::new().route("/", get(async move || name))));
    let address = serving(workers.into()).await;
    let connect = async || TcpStream::connect(address).await.expect("a connection");
    let silent = [connect().await, connect().await];
    let mut clients = Vec::new();
    for expected in names {
        let mut client = connect().await;
        let answer = ask(&mut client, "/").await;
        assert!(answer.ends_with(expected), "{answer}");
        clients.push(client);
    }
    // The end of idle connections does not change the turn.
    drop(silent);
    sleep(Duration::from_millis(1)).await;
    for expected in names {
        let answer = ask(&mut connect().await, "/").await;
        assert!(answer.ends_with(expected), "{answer}");
    }
}

/// Whether the server has closed the connection.
async fn is_closed(client: &mut TcpStream) -> bool {
    let read = timeout(Duration::from_millis(1), client.read(&mut [0])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_75_s() {
    let mut client = client(Router::new().route("/", get(async || "fine"))).await;
    for _ in 0..5 {
        let fine = ask(&mut client, "/").await;
        assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
        sleep(Duration::from_secs(74)).await;
        assert!(!is_closed(&mut client).await);
    }
    // A partial head does not extend the time.
    let half = client.write_all(b"GET / HTT").await;
    half.expect("a write");
    sleep(Duration::from_secs(18)).await;
    assert!(is_closed(&mut client).await);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_idle_while_its_request_is_in_progress() {
    let slow = get(async || sleep(Duration::from_secs(500)).await);
    let mut client = client(Router::new().route("/slow", slow)).await;
    let done = ask(&mut client, "/slow").await;
    assert!(done.starts_with("HTTP/1.1 200 "), "{done}");
    sleep(Duration::from_secs(74)).await;
    assert!(!is_closed(&mut client).await);
    sleep(Duration::from_secs(18)).await;
    assert!(is_closed(&mut client).await);
}

#[tokio::test(start_paused = true)]
async fn the_first_head_must_arrive_within_10_s() {
    let mut client = client(Router::new()).await;
    let half = client.write_all(b"GET / HTT").await;
    half.expect("a write");
    sleep(Duration::from_millis(9_900)).await;
    assert!(!is_closed(&mut client).await);
    sleep(Duration::from_millis(200)).await;
    assert!(is_closed(&mut client).await);
}

#[tokio::test]
async fn a_panic_fails_only_its_own_request() {
    let router = Router::new()
        .route("/fine", get(async || "fine"))
        .route("/broken", get(async || -> &str { panic!("secret cause") }));
    let mut client = client(router).await;
    let broken = ask(&mut client, "/broken").await;
    assert!(broken.starts_with("HTTP/1.1 500 "), "{broken}");
    assert!(broken.contains("application/problem+json"), "{broken}");
    assert!(!broken.contains("secret"), "{broken}");
    let fine = ask(&mut client, "/fine").await;
    assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
}

/// A page of another origin may read the error, although no handler sent it.
#[tokio::test]
async fn a_page_may_read_the_response_after_a_panic() {
    let router = Router::new().route("/", get(async || -> &str { panic!("secret cause") }));
    let front = Front::new(router).with_cors(true);
    let address = serving(vec![Worker::new(Handle::current(), front)]).await;
    let mut client = TcpStream::connect(address).await.expect("a connection");
    let broken = ask(&mut client, "/").await;
    assert!(broken.starts_with("HTTP/1.1 500 "), "{broken}");
    assert!(
        broken.contains("access-control-allow-origin: *"),
        "{broken}"
    );
}

async fn fill_with(address: SocketAddr, count: usize, request: &[u8]) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        client.write_all(request).await.expect("a write");
        clients.push(client);
    }
    clients
}

/// Returns all that a client receives until its connection ends.
async fn all_of(mut client: TcpStream) -> String {
    let mut received = String::new();
    let read = timeout(Duration::from_secs(5), client.read_to_string(&mut received)).await;
    read.expect("an end").expect("no reset");
    received
}

/// Waits until a listener has ended.
async fn wait_for_end(serving: JoinHandle<()>) {
    let ended = timeout(Duration::from_secs(5), serving).await;
    ended.expect("an end").expect("no panic");
}

/// Closes a connection with a reset.
fn reset(client: TcpStream) {
    let linger = SockRef::from(&client).set_linger(Some(Duration::ZERO));
    linger.expect("a reset is sent at the end");
}

fn http1_permits() -> usize {
    MemoryBudget::of(0).http1_requests()
}

fn stream_and_call() -> Vec<Worker> {
    let router = Router::new().route("/", get(async || "fine"));
    vec![worker(router.route("/v1/events", get(async || "a stream")))]
}

#[tokio::test]
async fn a_client_that_disconnects_leaves_the_queue_for_admission() {
    let drain = CancellationToken::new();
    let (address, listener) = listener(stream_and_call(), 1, Admission::closed(), &drain).await;
    tokio::spawn(listener.run());
    let waiting = TcpStream::connect(address).await.expect("a connection");
    let request = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    waiting.try_write(request).expect("a write");
    sleep(Duration::from_millis(50)).await;
    // The limit is one connection, which waits for admission.
    let mut next = TcpStream::connect(address).await.expect("a connection");
    let asking = ask(&mut next, "/");
    tokio::pin!(asking);
    let early = timeout(Duration::from_millis(100), &mut asking).await;
    assert!(early.is_err(), "{early:?}");
    reset(waiting);
    let fine = timeout(Duration::from_secs(5), asking).await;
    let fine = fine.expect("a free place");
    assert!(fine.ends_with("fine"), "{fine}");
}

#[tokio::test]
async fn clients_that_wait_for_admission_are_answered_in_a_drain() {
    let drain = CancellationToken::new();
    let (address, listener) = listener(stream_and_call(), 9, Admission::closed(), &drain).await;
    let serving = tokio::spawn(listener.run());
    let mut clients = Vec::new();
    // The second client closes its writing side.
    for is_half_closed in [false, true] {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let request = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.write_all(request).await.expect("a write");
        if is_half_closed {
            client.shutdown().await.expect("an open socket");
        }
        clients.push(client);
    }
    sleep(Duration::from_millis(100)).await;
    for client in &mut clients {
        let read = timeout(Duration::from_millis(1), client.read(&mut [0])).await;
        assert!(read.is_err(), "it waits: {read:?}");
    }
    drain.cancel();
    for client in clients {
        let answer = all_of(client).await;
        assert!(answer.ends_with("a stream"), "{answer}");
    }
    wait_for_end(serving).await;
}

#[tokio::test]
async fn connections_that_are_not_accepted_when_the_drain_begins_are_answered() {
    let drain = CancellationToken::new();
    let (address, listener) = listener(stream_and_call(), 99, Admission::new(1), &drain).await;
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let clients = fill_with(address, 50, request).await;
    drain.cancel();
    let serving = tokio::spawn(listener.run());
    for client in clients {
        let answer = all_of(client).await;
        assert!(answer.ends_with("fine"), "{answer}");
    }
    wait_for_end(serving).await;
}

#[tokio::test]
async fn a_pipelined_head_of_more_than_16_kib_is_refused() {
    let address = serving(vec![worker(Router::new().route("/", get(async || "fine")))]).await;
    for (length, status) in [(15_000, "200"), (17_000, "431"), (30_000, "431")] {
        let first = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let long = "x".repeat(length);
        let last = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n");
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let all = first.repeat(300) + &last;
        client.write_all(all.as_bytes()).await.expect("a write");
        client.shutdown().await.expect("an open socket");
        let mut answers = Vec::new();
        let read = timeout(Duration::from_secs(5), client.read_to_end(&mut answers)).await;
        read.expect("an end").expect("an answer");
        let answers = String::from_utf8_lossy(&answers);
        let answered: Vec<_> = answers.matches("HTTP/1.1 200").collect();
        let last = answers.matches(&format!("HTTP/1.1 {status}")).count();
        assert!(answered.len() >= 300 && last >= 1, "{length}: {answers}");
    }
}

#[tokio::test]
async fn an_http1_connection_cannot_change_to_http2() {
    let address = serving(vec![worker(Router::new().route("/", get(async || "fine")))]).await;
    let mut client = TcpStream::connect(address).await.expect("a connection");
    let fine = ask(&mut client, "/").await;
    assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    // By then the connection is idle and without hyper.
    sleep(Duration::from_millis(2_500)).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    client.write_all(preface).await.expect("a write");
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(5), client.read_to_end(&mut answer)).await;
    read.expect("an end").expect("an answer");
    assert!(answer.is_empty(), "{}", answer.escape_ascii());
}

#[tokio::test]
async fn an_invalid_request_holds_no_permit_while_it_is_refused() {
    let address = serving(vec![worker(Router::new().route("/", get(async || "fine")))]).await;
    let _refused = fill_with(address, http1_permits() * 2, b"this is no request\r\n\r\n").await;
    let mut client = TcpStream::connect(address).await.expect("a connection");
    let fine = timeout(Duration::from_millis(900), ask(&mut client, "/")).await;
    assert!(fine.expect("no wait").starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn connections_that_wait_for_their_clients_make_room_for_new_ones() {
    const MOST: u32 = 5;
    let long = "x".repeat(1 << 20);
    let router = Router::new()
        .route("/", get(async || "fine"))
        .route("/long", get(async move || long))
        .route("/body", post(async |body: String| body));
    let drain = CancellationToken::new();
    let (address, listener) = listener(vec![worker(router)], MOST, Admission::new(1), &drain).await;
    tokio::spawn(listener.run());
    for slow in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
        b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let _slow = fill_with(address, MOST as usize, slow).await;
        let mut client = TcpStream::connect(address).await.expect("it accepts");
        let fine = timeout(Duration::from_secs(5), ask(&mut client, "/")).await;
        let fine = fine.unwrap_or_else(|_| panic!("no room beside {}", slow.escape_ascii()));
        assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    }
}
