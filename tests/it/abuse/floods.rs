//! Endless HTTP/2 frames without requests.

use std::io::Write;
use std::time::Duration;

use harness::instance::{Instance, Settings};

use super::http2::{RST_STREAM, connect, flood, floods, frame, get, post, was_told_to_be_calm};

/// More bytes than a client without requests needs to send.
const MOST: usize = 4 << 20;

/// The default window of a stream.
const WINDOW: u32 = 65_535;

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_cut_off_and_delay_no_other_client() {
    let instance = Instance::start(&Settings::new()).await;
    let address = instance.address();
    for (name, what) in floods() {
        let flooded = tokio::task::spawn_blocking(move || {
            let mut connection = connect(address, WINDOW);
            let request = post(1, "/v1/users/alice/ping");
            connection.write_all(&request).expect("a write");
            flood(connection, &what, MOST)
        });
        instance.client().ping("alice").await;
        let (is_cut_off, answered) = flooded.await.expect("no panic");
        assert!(is_cut_off, "{name}: {MOST} bytes were taken");
        // The answers to these frames fill the connection, so that no GOAWAY fits.
        if !["PING", "SETTINGS"].contains(&name) {
            assert!(was_told_to_be_calm(&answered), "{name}: {answered:?}");
        }
    }
    assert_eq!(instance.client().get("/livez").await.status, 200);
    let log = instance.log();
    assert!(!log.contains("h2::"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_many_requests_may_send_many_frames() {
    let instance = Instance::start(&Settings::new()).await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge();
    let client = client.build().expect("a client");
    let url = format!("http://{}/docs/swagger-ui-bundle.js", instance.address());
    for _ in 0..150 {
        let answer = client.get(&url).send().await.expect("an answer");
        let body = answer.bytes().await.expect("a body");
        assert!(body.len() > 400_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_reset_at_once_have_a_limit() {
    let instance = Instance::start(&Settings::new()).await;
    let address = instance.address();
    let before = instance.resident_kib();
    let flooded = tokio::task::spawn_blocking(move || {
        let mut connection = connect(address, WINDOW);
        for number in 0..200_000_u32 {
            let stream = 2 * number + 1;
            let reset = frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
            let both = [get(stream, "/livez"), reset].concat();
            if connection.write_all(&both).is_err() {
                return;
            }
        }
    });
    flooded.await.expect("no panic");
    instance.client().ping("alice").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let more = instance.resident_kib().saturating_sub(before);
    assert!(more < 32 * 1_024, "{more} KiB");
}
