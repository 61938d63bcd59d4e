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
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::{Admission, Front};
use crate::memory_budget::MemoryBudget;
use crate::telemetry::Metrics;

async fn ask(client: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = [0; 2_048];
    let count = client.read(&mut answer).await.expect("it answers");
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

/// A client of connections that answer by `router`.
async fn client(router: Router) -> TcpStream {
    let address = serving(vec![worker(router)]).await;
    TcpStream::connect(address).await.expect("it accepts")
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
async fn idle_connections_are_no_load_and_new_ones_are_spread() {
    let names = ["first", "second"];
    let workers = names.map(|name| worker(Router::new().route("/", get(async move || name))));
    let address = serving(workers.into()).await;
    let connect = async || TcpStream::connect(address).await.expect("it accepts");
    let silent = [connect().await, connect().await];
    let mut clients = Vec::new();
    for expected in names {
        let mut client = connect().await;
        let answer = ask(&mut client, "/").await;
        assert!(answer.ends_with(expected), "{answer}");
        clients.push(client);
    }
    // One that has ended makes no difference while the others have nothing to do.
    drop(silent);
    sleep(Duration::from_millis(1)).await;
    for expected in names {
        let answer = ask(&mut connect().await, "/").await;
        assert!(answer.ends_with(expected), "{answer}");
    }
}

/// Whether the other side has closed the connection by now.
async fn is_closed(client: &mut TcpStream) -> bool {
    let read = timeout(Duration::from_millis(1), client.read(&mut [0])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test(start_paused = true)]
async fn a_client_is_cut_off_after_75_s_of_silence_and_not_before() {
    let mut client = client(Router::new().route("/", get(async || "fine"))).await;
    for _ in 0..5 {
        let fine = ask(&mut client, "/").await;
        assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
        sleep(Duration::from_secs(74)).await;
        assert!(!is_closed(&mut client).await);
    }
    // A head that is never finished is silence too.
    let half = client.write_all(b"GET / HTT").await;
    half.expect("it reads");
    sleep(Duration::from_secs(18)).await;
    assert!(is_closed(&mut client).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_an_answer_is_not_silent() {
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
async fn a_client_has_10_s_for_its_first_head() {
    let mut client = client(Router::new()).await;
    let half = client.write_all(b"GET / HTT").await;
    half.expect("it reads");
    sleep(Duration::from_millis(9_900)).await;
    assert!(!is_closed(&mut client).await);
    sleep(Duration::from_millis(200)).await;
    assert!(is_closed(&mut client).await);
}

#[tokio::test]
async fn a_panic_ends_its_own_request_only() {
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

/// A page that may call reads what happened, also where no handler answered.
#[tokio::test]
async fn a_page_may_read_the_answer_to_a_panic() {
    let router = Router::new().route("/", get(async || -> &str { panic!("secret cause") }));
    let front = Front::new(router).with_cors(true);
    let address = serving(vec![Worker::new(Handle::current(), front)]).await;
    let mut client = TcpStream::connect(address).await.expect("it accepts");
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
        let mut client = TcpStream::connect(address).await.expect("it accepts");
        client.write_all(request).await.expect("it reads");
        clients.push(client);
    }
    clients
}

fn places() -> usize {
    MemoryBudget::of(0).http1_requests()
}

#[tokio::test]
async fn no_request_of_many_is_lost_when_all_places_are_taken() {
    const REQUESTS: usize = 1_000;
    let router = Router::new()
        .route("/stuck", get(pending::<()>))
        .route("/body", post(async |body: String| drop(body)))
        .route("/{number}", get(async |Path(number): Path<String>| number));
    let address = serving(vec![worker(router)]).await;
    let stuck = b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let _stuck = fill_with(address, places() - 1, stuck).await;
    sleep(Duration::from_millis(200)).await;
    let client = TcpStream::connect(address).await.expect("it accepts");
    let (mut answers, mut requests) = client.into_split();
    // Behind a long body hyper reads more at once than it does at first.
    let (host, body) = ("Host: localhost", "x".repeat(40_000));
    let mut all = format!("POST /body HTTP/1.1\r\n{host}\r\nContent-Length: 40000\r\n\r\n{body}");
    all.extend((0..REQUESTS).map(|number| format!("GET /{number:05} HTTP/1.1\r\n{host}\r\n\r\n")));
    tokio::spawn(async move {
        requests.write_all(all.as_bytes()).await.expect("it reads");
        pending::<()>().await;
    });
    let mut read = String::new();
    let ends = |read: &str| read.ends_with(&format!("{:05}", REQUESTS - 1));
    while !ends(&read) {
        let mut some = [0; 16 * 1_024];
        let count = timeout(Duration::from_secs(10), answers.read(&mut some)).await;
        let count = count.unwrap_or_else(|_| panic!("it answers on after {read}"));
        let count = count.expect("it answers");
        assert_ne!(count, 0, "it answers all: {read}");
        read.push_str(&String::from_utf8_lossy(&some[..count]));
    }
    let numbers: Vec<_> = read.split("\r\n\r\n").skip(2).collect();
    assert_eq!(numbers.len(), REQUESTS);
    for (number, text) in numbers.iter().enumerate() {
        assert!(
            text.starts_with(&format!("{number:05}")),
            "{number}: {text}"
        );
    }
}

#[tokio::test]
async fn slow_clients_do_not_hold_up_others() {
    let long = "x".repeat(16 * 1_024);
    let router = Router::new()
        .route("/", get(async || "fine"))
        .route("/long", get(async move || long))
        .route("/body", post(async |body: String| body));
    let address = serving(vec![worker(router)]).await;
    let head = b"GET / HTTP/1.1\r\nHost: localhost\r\n";
    let body = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx";
    let chunks =
        b"POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx";
    let unread = b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    for slow in [&head[..], body, chunks, &unread] {
        let _slow = fill_with(address, places() * 3 / 2, slow).await;
        let mut client = TcpStream::connect(address).await.expect("it accepts");
        let fine = timeout(Duration::from_secs(2), ask(&mut client, "/")).await;
        let fine = fine.unwrap_or_else(|_| panic!("held up by {}", slow.escape_ascii()));
        assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    }
}

fn stream_and_call() -> Vec<Worker> {
    let router = Router::new().route("/", get(async || "fine"));
    vec![worker(router.route("/v1/events", get(async || "a stream")))]
}

#[tokio::test]
async fn a_client_that_is_gone_gives_up_its_place_in_the_queue_for_streams() {
    let drain = CancellationToken::new();
    let (address, listener) = listener(stream_and_call(), 1, Admission::closed(), &drain).await;
    tokio::spawn(listener.run());
    let waiting = TcpStream::connect(address).await.expect("it accepts");
    let request = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    waiting.try_write(request).expect("it reads");
    sleep(Duration::from_millis(50)).await;
    // The only connection that may be open waits.
    let mut next = TcpStream::connect(address).await.expect("it is queued");
    let asking = ask(&mut next, "/");
    tokio::pin!(asking);
    let early = timeout(Duration::from_millis(100), &mut asking).await;
    assert!(early.is_err(), "{early:?}");
    let linger = SockRef::from(&waiting).set_linger(Some(Duration::ZERO));
    linger.expect("a reset is sent at the end");
    drop(waiting);
    let fine = timeout(Duration::from_secs(5), asking).await;
    let fine = fine.expect("its place is free");
    assert!(fine.ends_with("fine"), "{fine}");
}

#[tokio::test]
async fn clients_that_wait_for_a_stream_are_answered_when_the_service_ends() {
    let drain = CancellationToken::new();
    let (address, listener) = listener(stream_and_call(), 9, Admission::closed(), &drain).await;
    let serving = tokio::spawn(listener.run());
    let mut clients = Vec::new();
    // The second client says that it will send no more.
    for is_half_closed in [false, true] {
        let mut client = TcpStream::connect(address).await.expect("it accepts");
        let request = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.write_all(request).await.expect("it reads");
        if is_half_closed {
            client.shutdown().await.expect("it is open");
        }
        clients.push(client);
    }
    sleep(Duration::from_millis(100)).await;
    for client in &mut clients {
        let read = timeout(Duration::from_millis(1), client.read(&mut [0])).await;
        assert!(read.is_err(), "it waits: {read:?}");
    }
    drain.cancel();
    for mut client in clients {
        let mut answer = String::new();
        let read = timeout(Duration::from_secs(5), client.read_to_string(&mut answer)).await;
        read.expect("it ends").expect("it is answered");
        assert!(answer.ends_with("a stream"), "{answer}");
    }
    let ended = timeout(Duration::from_secs(5), serving).await;
    ended.expect("it ends").expect("no panic");
}

#[tokio::test]
async fn a_pipelined_head_has_the_bound_of_every_head() {
    let address = serving(vec![worker(Router::new().route("/", get(async || "fine")))]).await;
    for (length, status) in [(15_000, "200"), (17_000, "431"), (30_000, "431")] {
        let first = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let long = "x".repeat(length);
        let last = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n");
        let mut client = TcpStream::connect(address).await.expect("it accepts");
        let all = first.repeat(300) + &last;
        client.write_all(all.as_bytes()).await.expect("it reads");
        client.shutdown().await.expect("it is open");
        let mut answers = Vec::new();
        let read = timeout(Duration::from_secs(5), client.read_to_end(&mut answers)).await;
        read.expect("it ends").expect("it answers");
        let answers = String::from_utf8_lossy(&answers);
        let answered: Vec<_> = answers.matches("HTTP/1.1 200").collect();
        let last = answers.matches(&format!("HTTP/1.1 {status}")).count();
        assert!(answered.len() >= 300 && last >= 1, "{length}: {answers}");
    }
}

/// HTTP/2 without what keeps to the rules.
struct Http2 {
    stream: TcpStream,
    /// What may be sent of bodies.
    window: usize,
}

impl Http2 {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it accepts");
        let mut client = Self {
            stream,
            window: 65_535,
        };
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.stream.write_all(hello).await.expect("it reads");
        client.send(4, 0, 0, &[]).await;
        client
    }

    async fn send(&mut self, kind: u8, flags: u8, number: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short frame");
        let header = [&length.to_be_bytes()[1..], &[kind, flags, 0, 0, 0, number]].concat();
        // A connection that has ended says so when it is read.
        let _ = self.stream.write_all(&[&header, payload].concat()).await;
    }

    /// The next frame's type and stream; `None` at the end.
    async fn frame(&mut self) -> Option<(u8, u8)> {
        let mut header = [0; 9];
        let read = timeout(Duration::from_secs(5), self.stream.read_exact(&mut header)).await;
        read.expect("something comes").ok()?;
        let [a, b, c, kind, _, d, _, _, number] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        if let (8, 0, 0, &[a, b, c, d]) = (kind, number, d, &payload[..]) {
            self.window += u32::from_be_bytes([a, b, c, d]) as usize;
        }
        Some((kind, number))
    }

    /// Asks for `/`, by GET or by a POST whose body is to come; from the static table, with one literal.
    async fn ask(&mut self, number: u8, has_body: bool) {
        let method = if has_body { 0x83 } else { 0x82 };
        let fields = [&[method, 0x86, 0x84, 0x01, 9], &b"localhost"[..]].concat();
        let flags = if has_body { 4 } else { 5 };
        self.send(1, flags, number, &fields).await;
    }

    /// Whether an answer begins.
    async fn is_answered(&mut self, number: u8) -> bool {
        while let Some((kind, of)) = self.frame().await {
            if kind == 1 && of == number {
                return true;
            }
        }
        false
    }
}

#[tokio::test]
async fn bodies_that_nobody_reads_do_not_end_a_shared_connection() {
    const PIECE: usize = 16_000;
    let router = Router::new().route("/", get(async || "fine").post(async || "not read"));
    let address = serving(vec![worker(router)]).await;
    let mut client = Http2::connect(address).await;
    for number in (1..=81).step_by(2) {
        while client.window < 2 * PIECE {
            client.frame().await.expect("it is open, and gives more");
        }
        client.ask(number, true).await;
        for _ in 0..2 {
            client.send(0, 0, number, &[0; PIECE]).await;
            client.window -= PIECE;
        }
        assert!(client.is_answered(number).await, "request {number}");
    }
    client.ask(101, false).await;
    assert!(client.is_answered(101).await);
}

#[tokio::test]
async fn idle_connections_of_http2_do_not_keep_others_out() {
    let router = Router::new().route("/", get(async || "fine"));
    let address = serving(vec![worker(router)]).await;
    let mut idle = Vec::new();
    for _ in 0..MemoryBudget::of(0).http2_connections() + 5 {
        let mut client = Http2::connect(address).await;
        client.ask(1, false).await;
        assert!(client.is_answered(1).await);
        idle.push(client);
    }
    let longest = idle.first_mut().expect("one");
    let mut is_told = false;
    while let Some((kind, _)) = longest.frame().await {
        is_told |= kind == 7;
    }
    assert!(is_told, "it is told with GOAWAY");
    let last = idle.last_mut().expect("one");
    last.ask(3, false).await;
    assert!(last.is_answered(3).await);
}

#[tokio::test]
async fn a_connection_that_speaks_http1_does_not_change_to_http2() {
    let address = serving(vec![worker(Router::new().route("/", get(async || "fine")))]).await;
    let mut client = TcpStream::connect(address).await.expect("it accepts");
    let fine = ask(&mut client, "/").await;
    assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    // By then it is without hyper.
    sleep(Duration::from_millis(2_500)).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    client.write_all(preface).await.expect("it reads");
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(5), client.read_to_end(&mut answer)).await;
    read.expect("it ends").expect("it answers");
    assert!(answer.is_empty(), "{}", answer.escape_ascii());
}

#[tokio::test]
async fn what_is_no_request_holds_no_place_while_it_is_refused() {
    let address = serving(vec![worker(Router::new().route("/", get(async || "fine")))]).await;
    let _refused = fill_with(address, places() * 2, b"this is no request\r\n\r\n").await;
    let mut client = TcpStream::connect(address).await.expect("it accepts");
    let fine = timeout(Duration::from_millis(900), ask(&mut client, "/")).await;
    assert!(fine.expect("no wait").starts_with("HTTP/1.1 200 "));
}
