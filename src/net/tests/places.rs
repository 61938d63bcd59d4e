//! Connections beyond the limit.

use super::*;

#[tokio::test]
async fn connections_beyond_the_limit_are_spread_over_the_workers() {
    const MOST: usize = 6;
    let names = ["first", "second"];
    let workers = names.map(|name| worker(Router::new().route("/", get(async move || name))));
    let (drain, admission) = (CancellationToken::new(), Admission::new(1));
    let (address, listener) = listener(workers.into(), MOST as u32, admission, &drain).await;
    tokio::spawn(listener.run());
    let _silent = fill_with(address, MOST, b"").await;
    // From then on they make room.
    sleep(Duration::from_millis(1_200)).await;
    let (mut clients, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..MOST {
        let mut client = TcpStream::connect(address).await.expect("it accepts");
        let answer = timeout(Duration::from_secs(5), ask(&mut client, "/")).await;
        answers.push(answer.expect("a place"));
        clients.push(client);
    }
    for name in names {
        let of_worker = answers.iter().filter(|answer| answer.ends_with(name));
        assert_eq!(of_worker.count(), MOST / 2, "{name}: {answers:?}");
    }
}

#[tokio::test]
async fn connections_that_wait_for_a_place_when_the_drain_begins_are_answered() {
    let gate = CancellationToken::new();
    let opened = gate.clone();
    let router = Router::new()
        .route("/stuck", get(async move || opened.cancelled().await))
        .route("/", get(async || "fine"));
    let (drain, admission) = (CancellationToken::new(), Admission::new(1));
    let (address, listener) = listener(vec![worker(router)], 1, admission, &drain).await;
    let serving = tokio::spawn(listener.run());
    let stuck = b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut clients = fill_with(address, 1, stuck).await;
    sleep(Duration::from_millis(100)).await;
    // One is accepted and waits for a place, the other is in the queue of the kernel.
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    clients.extend(fill_with(address, 2, request).await);
    sleep(Duration::from_millis(100)).await;
    drain.cancel();
    sleep(Duration::from_millis(20)).await;
    gate.cancel();
    for client in clients {
        let answer = all_of(client).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    wait_for_end(serving).await;
}
