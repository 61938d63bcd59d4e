//! Clients that never complete their first request.

use std::time::Duration;

use harness::deployment::{Deployment, Store};
use harness::wait::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The number of clients.
const CLIENTS: usize = 400;

/// The time between two bytes of a client.
const BETWEEN_BYTES: Duration = Duration::from_millis(250);

/// The memory that a client may cost, in KiB: two buffers of hyper, a task, and rounding.
const KIB_EACH: u64 = 40;

/// Sends a head byte by byte until the service closes the connection.
async fn trickle(mut connection: TcpStream) {
    connection
        .write_all(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        .await
        .expect("a connection");
    let mut answer = [0; 64];
    loop {
        match timeout(BETWEEN_BYTES, connection.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(count)) => {
                let answer = String::from_utf8_lossy(&answer[..count]);
                assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            }
            // After a failed write the next read fails too.
            Err(_) => drop(connection.write_all(b"x").await),
        }
    }
}

#[tokio::test]
async fn slow_heads_are_cut_off_and_delay_no_other_client() {
    let deployment = Deployment::start(Store::Redis).await;
    let (instance, client) = (&deployment.instances[0], deployment.client());
    client.ping("alice").await;
    let before = instance.resident_kib();
    let mut heads = JoinSet::new();
    for _ in 0..CLIENTS {
        let connection = TcpStream::connect(instance.address()).await;
        heads.spawn(trickle(connection.expect("a connection")));
    }
    let give_up = Instant::now() + PATIENCE;
    let mut most = before;
    while !heads.is_empty() {
        let left = heads.len();
        assert!(Instant::now() < give_up, "{left} were not cut off");
        // A ping that waits for the slow heads fails with the time-out of the client.
        client.ping("alice").await;
        most = most.max(instance.resident_kib());
        // The loop continues in either case.
        if let Ok(Some(ended)) = timeout(BETWEEN_BYTES, heads.join_next()).await {
            ended.expect("an orderly end");
        }
    }
    let each = (most - before) / CLIENTS as u64;
    assert!(each <= KIB_EACH, "{each} KiB each");
}
