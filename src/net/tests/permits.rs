//! Requests while all permits are taken.

use super::*;

#[tokio::test]
async fn no_pipelined_request_is_lost_when_all_permits_are_taken() {
    const REQUESTS: usize = 1_000;
    let router = Router::new()
        .route("/stuck", get(pending::<()>))
        .route("/body", post(async |body: String| drop(body)))
        .route("/{number}", get(async |Path(number): Path<String>| number));
    let address = serving(vec![worker(router)]).await;
    let stuck = b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let _stuck = fill_with(address, http1_permits() - 1, stuck).await;
    sleep(Duration::from_millis(200)).await;
    let client = TcpStream::connect(address).await.expect("it accepts");
    let (mut answers, mut requests) = client.into_split();
    // After a long body, hyper reads more bytes at once.
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
async fn slow_clients_do_not_delay_other_clients() {
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
        let _slow = fill_with(address, http1_permits() * 3 / 2, slow).await;
        let mut client = TcpStream::connect(address).await.expect("it accepts");
        let fine = timeout(Duration::from_secs(2), ask(&mut client, "/")).await;
        let fine = fine.unwrap_or_else(|_| panic!("held up by {}", slow.escape_ascii()));
        assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    }
}

/// `MemoryBudget::of(0)` allows 2 MiB of requests without a permit.
#[tokio::test]
async fn requests_that_wait_for_a_permit_are_bounded_in_memory() {
    let gate = CancellationToken::new();
    let opened = gate.clone();
    let router = Router::new()
        .route("/stuck", get(async move || opened.cancelled().await))
        .route("/", get(async || "fine"));
    let address = serving(vec![worker(router)]).await;
    let stuck = b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let _stuck = fill_with(address, http1_permits(), stuck).await;
    sleep(Duration::from_millis(200)).await;
    let mut small = fill_with(address, 1, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let long = "x".repeat(15_000);
    let head = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nX:";
    let large = format!("{head} {long}\r\n\r\n");
    let large = fill_with(address, 200, large.as_bytes()).await;
    let mut refused = 0;
    for mut client in large {
        let mut answer = String::new();
        let read = timeout(
            Duration::from_millis(20),
            client.read_to_string(&mut answer),
        )
        .await;
        if read.is_ok() && !answer.is_empty() {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains("event: presence.end"), "{answer}");
            refused += 1;
        }
    }
    assert!(refused >= 50, "{refused} were refused");
    gate.cancel();
    let mut answer = [0; 2_048];
    let read = timeout(Duration::from_secs(15), small[0].read(&mut answer)).await;
    let count = read.expect("it is served").expect("it is answered");
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// With this many requests after the other, the clients that pipeline would keep the permits for a minute.
#[tokio::test]
async fn clients_that_pipeline_keep_no_permit_that_others_wait_for() {
    const PIPELINED: usize = 300;
    let router = Router::new().route("/", get(async || "fine")).route(
        "/slow",
        get(async || sleep(Duration::from_millis(200)).await),
    );
    let address = serving(vec![worker(router)]).await;
    let slow = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(PIPELINED);
    let mut pipelining = fill_with(address, http1_permits(), &slow).await;
    sleep(Duration::from_millis(200)).await;
    let mut client = TcpStream::connect(address).await.expect("it accepts");
    let fine = timeout(Duration::from_secs(9), ask(&mut client, "/")).await;
    let fine = fine.expect("it has its turn");
    assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    let mut answers = String::new();
    let first = pipelining[0].read_to_string(&mut answers);
    let ended = timeout(Duration::from_secs(9), first).await;
    ended.expect("it ends").expect("no reset");
    assert!(answers.contains("connection: close"), "{answers}");
}
