//! A stream that does not read while many users come and go.

use harness::deployment::{Deployment, Store, on_both_stores};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::slow_reader::mute_reader;

/// The number of connects and disconnects: more than the ring holds, so that more of them would cost no more memory.
const PAIRS: usize = 20_000;

/// The connections of the callers, and the pipelined calls on each.
const CALLERS: usize = 16;
const PIPELINED: usize = 50;

/// The memory that an instance may use meanwhile, in MiB. The ring and the queue of one stream bound it, and on the
/// embedded store the age of the history.
const MIB: u64 = 40;

/// Connects and disconnects `pairs` times on one connection.
async fn come_and_go(mut connection: TcpStream, caller: usize, pairs: usize) {
    let request = |verb| {
        format!(
            "POST /v1/users/caller-{caller}/{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let batch = [request("connect"), request("disconnect")]
        .concat()
        .repeat(PIPELINED);
    for _ in 0..pairs / PIPELINED {
        connection
            .write_all(batch.as_bytes())
            .await
            .expect("a write");
        let mut answers = Vec::new();
        while count(&answers, b"\"becameO") < 2 * PIPELINED {
            let read = connection.read_buf(&mut answers).await.expect("an answer");
            assert_ne!(
                read,
                0,
                "not all answers: {}",
                String::from_utf8_lossy(&answers)
            );
        }
        let all = String::from_utf8_lossy(&answers);
        assert_eq!(all.matches("HTTP/1.1 200 ").count(), 2 * PIPELINED, "{all}");
    }
}

fn count(bytes: &[u8], part: &[u8]) -> usize {
    bytes
        .windows(part.len())
        .filter(|found| found == &part)
        .count()
}

async fn memory_is_bounded_behind_a_stream_that_does_not_read(store: Store) {
    let deployment = Deployment::start(store).await;
    let instance = &deployment.instances[0];
    let mute = mute_reader(instance.address(), "");
    let before = instance.resident_kib();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let connection = TcpStream::connect(instance.address()).await;
        callers.spawn(come_and_go(
            connection.expect("a connection"),
            caller,
            PAIRS / CALLERS,
        ));
    }
    let mut most = before;
    while let Some(ended) = callers.join_next().await {
        ended.expect("all came and went");
        most = most.max(instance.resident_kib());
    }
    drop(mute);
    let mib = (most - before) / 1_024;
    assert!(mib <= MIB, "{mib} MiB");
    assert_eq!(deployment.client().count().await, 0);
}

on_both_stores!(memory_is_bounded_behind_a_stream_that_does_not_read,);
