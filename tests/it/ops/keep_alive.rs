//! The time for which an idle connection stays open.

use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::wait::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn answered(connection: &mut TcpStream) {
    connection.write_all(REQUEST).await.expect("a write");
    let mut bytes = [0; 4_096];
    let read = timeout(PATIENCE, connection.read(&mut bytes)).await;
    let count = read.expect("in time").expect("an answer");
    assert!(bytes[..count].starts_with(b"HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_keep_alive_and_not_before() {
    let settings = Settings::new().with("PRESENCE_KEEP_ALIVE", "4s");
    let instance = Instance::start(&settings).await;
    let mut connection = instance.told(b"").await;
    answered(&mut connection).await;
    sleep(Duration::from_millis(3_500)).await;
    answered(&mut connection).await;
    let idle_since = Instant::now();
    let mut byte = [0];
    let closed = timeout(PATIENCE, connection.read(&mut byte)).await;
    assert_eq!(closed.expect("an end").expect("a clean end"), 0);
    assert!(idle_since.elapsed() >= Duration::from_secs(4));
}

#[tokio::test]
async fn a_bad_keep_alive_stops_the_start() {
    for time in ["0s", "75", "2d", "forever"] {
        let settings = Settings::new().with("PRESENCE_KEEP_ALIVE", time);
        let ended = Instance::run_to_its_end(&settings, &[]).await;
        assert_eq!(ended.status.code(), Some(2), "{time}");
        assert!(ended.log.contains("PRESENCE_KEEP_ALIVE"), "{}", ended.log);
    }
}
