//! Sweeps after a time without sweeps.

use harness::cluster::Cluster;
use harness::instance::Settings;
use harness::wait::eventually_true;

/// After an outage each user is swept once, and not once by each instance.
#[tokio::test]
async fn instances_that_catch_up_look_at_each_user_about_once() {
    const USERS: u64 = 50_000;
    const AT_ONCE: usize = 5_000;
    let load = "for user = ARGV[1], ARGV[1] + ARGV[2] - 1 do
        redis.call('SET', 'presence:user:' .. user, '1', 'PX', 600000)
      end";
    let cluster = Cluster::of(3, Settings::mortal().with("PRESENCE_PING_INTERVAL", "1s")).await;
    let redis = cluster.redis();
    for first in (1..=USERS).step_by(AT_ONCE) {
        let (first, count) = (first.to_string(), AT_ONCE.to_string());
        redis
            .command::<()>(&["EVAL", load, "0", &first, &count])
            .await;
    }
    // All users are alive, and their deadlines in the index are old. One command adds all of them, so that all
    // instances find them at the same time.
    let members: Vec<String> = (1..=USERS).map(|user| user.to_string()).collect();
    let mut enter = vec!["ZADD", "presence:deadlines"];
    enter.extend(members.iter().flat_map(|user| [&**user, &**user]));
    redis.command::<()>(&enter).await;
    eventually_true("every user was swept", async || {
        redis
            .command::<u64>(&["ZCOUNT", "presence:deadlines", "-inf", "1000000"])
            .await
            == 0
    })
    .await;
    let looks = redis.calls_of("pexpiretime").await;
    assert!(looks >= USERS, "{looks} looks");
    assert!(looks < USERS * 3 / 2, "{looks} looks at {USERS} users");
}
