//! The clock of Redis is set back while most partitions are quiet.

use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;
use harness::serial::run_quietly;
use harness::wait::eventually_true;
use tokio::time::sleep;

/// Longer than an instance takes to become quiet.
const SETTLED: Duration = Duration::from_secs(4);

/// An instance beats every 0.8 s. Every second beat writes, the others look.
const AFTER_A_LOOK: Duration = Duration::from_millis(1_200);

/// From then on until after the next beat, which writes.
const OVER_A_WRITE: Duration = Duration::from_millis(600);

const TTL_MS: u64 = 60_000;

/// The server stands still while a sweep of the busy partition is on its way, until a beat is due. So this sweep finds
/// the step, and the beat follows it at once. A step may miss that by a moment, so there are two.
#[tokio::test]
async fn a_step_back_is_noticed_in_quiet_partitions_beside_a_busy_one() {
    run_quietly();
    let redis = RedisServer::start_with_clock().await;
    let settings = Settings::new()
        .with("PRESENCE_PARTITIONS", "16")
        .with("PRESENCE_TTL", "60s")
        .with("PRESENCE_PING_INTERVAL", "20s")
        .with("REDIS_URL", &redis.url());
    let instance = Instance::start(&settings).await;
    let names = settings.names();
    // While this key exists, the partition is not quiet.
    let delicate = names.key("delicate", "busy");
    redis.command::<()>(&["SET", &delicate, ""]).await;
    let users = names.strangers("busy");
    instance.client().connect_each(&users).await;
    let keys = users.iter().map(|user| names.of_user("user", user));
    let keys: Vec<String> = keys.collect();
    for step in 1..=2 {
        sleep(SETTLED).await;
        let written = redis.calls_of("mset").await;
        eventually_true("a beat writes", async || {
            redis.calls_of("mset").await > written
        })
        .await;
        sleep(AFTER_A_LOOK).await;
        redis.freeze();
        redis.set_clock_ahead(-600_000 * step);
        sleep(OVER_A_WRITE).await;
        redis.thaw();
        eventually_true("each deadline is at most a TTL away", async || {
            redis.sum("PTTL", &keys, &[]).await <= TTL_MS * keys.len() as u64
        })
        .await;
    }
}
