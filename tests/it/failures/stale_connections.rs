//! Connections that Redis closes while an instance is frozen, as platforms freeze a process between two requests.

use std::cell::Cell;
use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::process::Signal;
use harness::redis_server::RedisServer;
use harness::serial::run_alone;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Much longer than the silence after which a connection is checked, and short enough for many repetitions.
const FROZEN: Duration = Duration::from_millis(250);

const TIMES: usize = 20;

/// The request waits in the socket of the frozen instance, so the instance meets it and the end of its connections to
/// Redis at the same time. A connect is the call that may not run twice: exactly one answer has `becameOnline`.
#[tokio::test]
async fn the_first_call_after_a_freeze_succeeds_although_all_connections_to_redis_died() {
    run_alone();
    let redis = RedisServer::start().await;
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let killed = Cell::new(0);
    for time in 0..TIMES {
        instance.send(Signal::Stop);
        let path = format!("/v1/users/user-{time}/connect");
        let body = json!({});
        let call = client.post(&path, &body);
        let (answer, ()) = tokio::join!(call, async {
            sleep(FROZEN).await;
            for kind in ["normal", "pubsub"] {
                let kill = ["CLIENT", "KILL", "TYPE", kind];
                // Some may not be open again yet.
                killed.set(killed.get() + redis.command::<usize>(&kill).await);
            }
            instance.send(Signal::Continue);
        });
        assert_eq!(answer.status, 200, "time {time}: {}", answer.body);
        assert_eq!(answer.ok::<Value>()["becameOnline"], true, "time {time}");
    }
    assert!(killed.get() > TIMES, "{killed:?}");
    let count: Value = client.get("/v1/online/count").await.ok();
    assert_eq!(count, json!({"count": TIMES}));
}
