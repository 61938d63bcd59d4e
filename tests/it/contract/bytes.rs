//! Random bytes from clients cause no 5xx and no undocumented answer, and the service goes on.
//!
//! `PROPTEST_CASES` sets the number of batches of requests. Each request has its own connection.

mod answer;
mod request;

use std::env;
use std::net::SocketAddr;
use std::time::Duration;

use harness::client::Client;
use harness::deployment::{Deployment, Store};
use harness::instance::Settings;
use harness::wait::PATIENCE;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestError, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::answer::Answer;

/// Concurrent requests.
const BATCH: usize = 32;

/// Batches without `PROPTEST_CASES`; they take a few seconds.
const BATCHES: u32 = 30;

/// The time after which the client closes its side, so that the service does not wait for more of the request.
const WAIT_FOR_MORE: Duration = Duration::from_millis(300);

/// Sends `request` and reads one answer, or until the connection is closed.
async fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // The service may refuse the request and close before it has read all of it.
    let _ = stream.write_all(request).await;
    let mut answer = Answer::to(request);
    let read = timeout(WAIT_FOR_MORE, read(&mut stream, &mut answer)).await;
    if read.is_err() {
        let _ = stream.shutdown().await;
        let ended = timeout(PATIENCE, self::read(&mut stream, &mut answer)).await;
        assert!(ended.is_ok(), "a connection that has ended is closed");
    }
    answer
}

async fn read(stream: &mut TcpStream, answer: &mut Answer) {
    let mut bytes = [0; 16_384];
    while !answer.is_complete() {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(count) => answer.add(&bytes[..count]),
        }
    }
}

/// Checks that every answer of the batch is documented, and that the service works afterwards.
async fn send_all(client: &Client, address: SocketAddr, batch: &[Vec<u8>]) -> Result<(), String> {
    let mut calls = JoinSet::new();
    for request in batch {
        let request = request.clone();
        calls.spawn(async move {
            let answer = exchange(address, &request).await;
            let judged = answer.judge();
            judged.map_err(|why| format!("{why}\n{}", request.escape_ascii()))
        });
    }
    while let Some(judged) = calls.join_next().await {
        judged.map_err(|panic| panic.to_string())??;
    }
    let alive = client.get("/readyz").await;
    match alive.status.as_u16() {
        200 => Ok(()),
        status => Err(format!("not ready: {status}")),
    }
}

fn cases() -> Cases {
    let cases = Cases::default();
    Cases {
        cases: env::var("PROPTEST_CASES").map_or(BATCHES, |_| cases.cases),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..cases
    }
}

fn fuzz(store: Store) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let settings = Settings::new()
        .with("PRESENCE_API_KEYS", request::API_KEYS)
        .with("PRESENCE_JWT_SECRET", request::JWT_SECRET)
        .with("PRESENCE_STREAM_MAX_AGE", "1s");
    let deployment = runtime.block_on(Deployment::with(store, settings));
    let (client, address) = (deployment.client(), deployment.instances[0].address());
    let sent = TestRunner::new(cases()).run(&vec(request::any(), BATCH), |batch| {
        let sent = runtime.block_on(send_all(&client, address, &batch));
        sent.map_err(TestCaseError::fail)
    });
    match sent {
        Ok(()) => {}
        // The reason shows the failing request as text instead of the batch as numbers.
        Err(TestError::Fail(why, _)) => panic!("{why}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    let log = deployment.instances[0].log();
    let quiet = !log.contains("\"ERROR\"") && !log.contains("panicked");
    assert!(quiet, "nothing went wrong within:\n{log}");
}

#[test]
fn random_requests_never_cause_an_error_on_the_embedded_store() {
    fuzz(Store::Embedded);
}

#[test]
fn random_requests_never_cause_an_error_on_the_redis_store() {
    fuzz(Store::Redis);
}
