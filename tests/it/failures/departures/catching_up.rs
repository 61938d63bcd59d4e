//! Sweeps after a time without sweeps.

use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::wait::eventually_true;

/// After an outage each user is swept once, and not once by each instance.
#[tokio::test]
async fn instances_that_catch_up_look_at_each_user_about_once() {
    const USERS: u64 = 50_000;
    const AT_ONCE: usize = 5_000;
    let load = "for _, key in ipairs(ARGV) do redis.call('SET', key, '1', 'PX', 600000) end";
    let deployment =
        Deployment::on_one_server(3, Settings::mortal().with("PRESENCE_PING_INTERVAL", "1s")).await;
    let redis = deployment.redis();
    let names = deployment.names();
    let users: Vec<String> = (1..=USERS).map(|user| user.to_string()).collect();
    for some in users.chunks(AT_ONCE) {
        let keys: Vec<_> = some
            .iter()
            .map(|user| names.of_user("user", user))
            .collect();
        let mut load = vec!["EVAL", load, "0"];
        load.extend(keys.iter().map(String::as_str));
        redis.command::<()>(&load).await;
    }
    // All users are alive, and their deadlines in the indexes are old. One command adds all of an index, so that all
    // instances find them at the same time.
    let indexes = names.all("deadlines");
    for (partition, index) in indexes.iter().enumerate() {
        let mut enter = vec!["ZADD", index];
        let members = users
            .iter()
            .filter(|user| names.partition_of(user) == partition);
        enter.extend(members.flat_map(|user| [&**user, &**user]));
        redis.command::<()>(&enter).await;
    }
    // The instances did not write that, so nothing told them.
    for bus in names.all("bus") {
        redis
            .command::<u64>(&[names.publish(), &bus, "nearer"])
            .await;
    }
    eventually_true("every user was swept", async || {
        redis.sum("ZCOUNT", &indexes, &["-inf", "1000000"]).await == 0
    })
    .await;
    let looks = redis.calls_of("pexpiretime").await;
    assert!(looks >= USERS, "{looks} looks");
    // Instances take the same users of a partition if it has only some batches.
    let most = match names.partitions() {
        1 => USERS * 3 / 2,
        _ => USERS * 5 / 2,
    };
    assert!(looks < most, "{looks} looks at {USERS} users");
}
