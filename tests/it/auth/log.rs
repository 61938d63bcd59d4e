//! The log and the metrics show no credentials at any log level.

use harness::client::{Client, send};
use harness::instance::Instance;
use harness::process::Signal;
use harness::sse::Stream;
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::{
    READ_KEY, SECRET, WRITE_KEY, call, claims, ping, settings_with_credentials, token, with,
};

/// The preface of HTTP/2 and an empty SETTINGS frame.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn no_credential_is_logged_at_trace_level() {
    let settings = settings_with_credentials().with("RUST_LOG", "trace");
    let mut instance = Instance::start(&settings).await;
    let client = instance.client();

    let good = token(&claims("alice"));
    let expired = token(&with(claims("alice"), "exp", json!(1)));
    let forged = "f0rged-credential-f0rged";
    for credential in [&*good, &*expired, forged, READ_KEY, WRITE_KEY] {
        ping(&client, "alice", credential).await;
        call(&client, Method::GET, "/v1/online", credential).await;
        for path in ["/v1/events", "/v1/online", "/nothing", "/v1/users/%00"] {
            let path = format!("{path}?userIds=zoe&access_token={credential}");
            let response = client.request(Method::GET, &path).send().await;
            drop(response.expect("an answer"));
        }
        let post = client.request(
            Method::POST,
            &format!("/v1/events?access_token={credential}"),
        );
        send(post.header("Content-Type", "application/json").body("{")).await;
        malformed_over_http2(&client, credential).await;
    }
    let query = format!("?userIds=alice&access_token={good}");
    drop(Stream::open(&client, &query).await);
    let metrics = client.get("/metrics").await.body;
    eventually_true("the log has the requests", async || {
        let log = instance.log();
        log.contains("DEBUG") && log.contains("/v1/users/%00")
    })
    .await;
    instance.send(Signal::Terminate);
    instance.exit().await;
    let log = instance.log();
    for secret in [&*good, &*expired, forged, READ_KEY, WRITE_KEY, SECRET] {
        for part in secret
            .split('.')
            .filter(|part| part.len() > 40 || !secret.contains('.'))
        {
            let at = log.find(part).map(|at| &log[at.saturating_sub(300)..at]);
            assert!(at.is_none(), "{part} is logged after {at:?}");
            assert!(!metrics.contains(part), "{part} is in the metrics");
        }
    }
}

/// Sends a request with an invalid path. The HTTP crates show such paths in their debug lines.
async fn malformed_over_http2(client: &Client, credential: &str) {
    let address = client.base().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let path = format!("/v1/events?access_token={credential} <>");
    let mut block = vec![0x82, 0x86, 0x04, 0x7f];
    // HPACK integers beyond the prefix of seven bits (RFC 7541, section 5.1).
    let mut rest = path.len() - 127.min(path.len());
    if path.len() < 127 {
        block[3] = path.len() as u8;
    } else {
        while rest >= 128 {
            block.push((rest % 128 + 128) as u8);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(path.as_bytes());
    let length = (block.len() as u32).to_be_bytes();
    let mut request = HTTP2.to_vec();
    request.extend_from_slice(&length[1..]);
    request.extend_from_slice(&[1, 5, 0, 0, 0, 1]);
    request.extend_from_slice(&block);
    stream
        .write_all(&request)
        .await
        .expect("the request is sent");
    let mut answer = [0; 1_024];
    let _ = timeout(Duration::from_millis(200), stream.read(&mut answer)).await;
}
