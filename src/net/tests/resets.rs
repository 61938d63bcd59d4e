//! Clients that give up while their request is in progress.

use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// How long the requests of these tests take.
const LONG: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn a_long_request_ends_once_its_client_has_reset_the_connection() {
    let ended = CancellationToken::new();
    let guard = ended.clone();
    let stuck = get(async move || {
        let _ended = guard.clone().drop_guard();
        pending::<()>().await;
    });
    let mut client = client(Router::new().route("/", stuck)).await;
    client.write_all(REQUEST).await.expect("a write");
    sleep(LONG).await;
    assert!(!ended.is_cancelled());
    reset(client);
    let noticed = timeout(Duration::from_secs(3), ended.cancelled()).await;
    noticed.expect("the request ends");
}

#[tokio::test(start_paused = true)]
async fn a_short_request_is_carried_out_although_its_client_resets_the_connection() {
    let done = CancellationToken::new();
    let finished = done.clone();
    let call = get(async move || {
        sleep(Duration::from_secs(2)).await;
        finished.cancel();
    });
    let mut client = client(Router::new().route("/", call)).await;
    client.write_all(REQUEST).await.expect("a write");
    sleep(Duration::from_millis(100)).await;
    reset(client);
    let carried_out = timeout(Duration::from_secs(5), done.cancelled()).await;
    carried_out.expect("the call ends");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_its_writing_side_gets_the_answer_to_a_long_request() {
    let slow = get(async || {
        sleep(LONG).await;
        "fine"
    });
    let mut client = client(Router::new().route("/", slow)).await;
    client.write_all(REQUEST).await.expect("a write");
    client.shutdown().await.expect("an open socket");
    let mut answer = String::new();
    let read = timeout(2 * LONG, client.read_to_string(&mut answer)).await;
    read.expect("an end").expect("an answer");
    assert!(answer.ends_with("fine"), "{answer}");
}
