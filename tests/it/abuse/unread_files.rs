//! Clients that ask for a large answer and never read it.

use std::time::Duration;

use harness::instance::{Instance, Settings};
use tokio::time::sleep;

/// How many ask, which makes some 560 MiB of answers.
const CLIENTS: usize = 400;

/// What each may cost, in KiB: the buffer of its connection and a part of the answer.
const KIB_EACH: u64 = 320;

#[tokio::test]
async fn a_large_answer_that_is_not_read_is_in_memory_once() {
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    let whole = client.get("/docs/swagger-ui-bundle.js").await.body.len();
    assert!(whole > 1_024 * 1_024, "{whole} bytes are no large answer");
    let before = instance.resident_kib();
    let mut unread = Vec::new();
    for _ in 0..CLIENTS {
        let request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
        unread.push(instance.told(request).await);
    }
    sleep(Duration::from_millis(500)).await;
    let grown = instance.resident_kib().saturating_sub(before);
    let most = KIB_EACH * CLIENTS as u64;
    assert!(grown < most, "{grown} KiB for {CLIENTS} clients");
    assert_eq!(client.get("/livez").await.status, 200);
}
