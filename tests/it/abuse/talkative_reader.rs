//! A stream client that keeps sending.

use harness::instance::{Instance, Settings};
use harness::wait::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Far more bytes than a stream client has to send.
const JUNK: [u8; 1_024] = [b'x'; 1_024];

#[tokio::test]
async fn a_reader_that_sends_too_many_bytes_is_cut_off() {
    let instance = Instance::start(&Settings::new()).await;
    let request = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = instance.told(request).await;
    let mut first = [0; 1_024];
    let count = stream.read(&mut first).await.expect("an answer");
    assert!(first[..count].starts_with(b"HTTP/1.1 200 "));
    let cut_off = async { while stream.write_all(&JUNK).await.is_ok() {} };
    let cut_off = timeout(PATIENCE, cut_off).await;
    assert!(cut_off.is_ok(), "the client was not cut off");
}
