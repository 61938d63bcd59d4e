//! The cluster of the harness does what the other tests ask of it.

use harness::names::Names;
use harness::redis_cluster::RedisCluster;
use harness::wait::eventually_true;

/// As many partitions as there can be.
fn names() -> Names {
    Names::new("presence:", 256)
}

/// A key of a partition.
fn key_of(names: &Names, partition: usize) -> String {
    names.all("user:alice").swap_remove(partition)
}

async fn set(cluster: &RedisCluster, node: usize, key: &str, value: &str) {
    cluster.node(node).command::<()>(&["SET", key, value]).await;
}

async fn get(cluster: &RedisCluster, node: usize, key: &str) -> Option<String> {
    cluster.node(node).command(&["GET", key]).await
}

#[test]
fn tags_are_the_first_and_shortest() {
    let keys = Names::new("p:", 64).all("held");
    assert_eq!(keys[..3], ["p:{1bz}:held", "p:{nbd}:held", "p:{04s}:held"]);
    let fewer = Names::new("p:", 16).all("held");
    assert_eq!(fewer[5], keys[20], "tags nest");
    assert_eq!(Names::new("p:", 1).all("held"), ["p:held"]);
}

/// Redis computes the same slots as the harness.
async fn slots_are_those_of_redis(cluster: &RedisCluster, names: &Names) {
    for partition in 0..256 {
        let key = key_of(names, partition);
        let slot: u16 = cluster.node(4).command(&["CLUSTER", "KEYSLOT", &key]).await;
        assert_eq!(slot, names.slot(partition), "{key}");
    }
    for user in ["alice", "bób"] {
        let slot: usize = cluster.node(0).command(&["CLUSTER", "KEYSLOT", user]).await;
        assert_eq!(slot / 64, names.partition_of(user), "{user}");
    }
}

/// Writes to the node at `port` over a connection of its own.
async fn write_at(port: u16, key: &str) {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a URL");
    let connection = client.get_multiplexed_async_connection().await;
    let mut connection = connection.expect("a connection");
    let mut set = redis::cmd("SET");
    set.arg(key).arg("1");
    let written = set.query_async::<()>(&mut connection).await;
    written.expect("a write");
}

#[tokio::test]
async fn nodes_fail_over_and_return() {
    let mut cluster = RedisCluster::start().await;
    let names = names();
    assert_eq!(cluster.masters().await, [0, 1, 2]);
    slots_are_those_of_redis(&cluster, &names).await;
    let alice = names.of_user("user", "alice");
    let master = cluster.master_of(&names, "alice").await;
    let partitions = cluster.partitions_of(&names, master).await;
    assert!(partitions.len() >= 85 && partitions.contains(&names.partition_of("alice")));
    set(&cluster, master, &alice, "1").await;
    assert_eq!(cluster.sum(&names, "EXISTS", "user:alice", &[]).await, 1);

    // A planned failover loses nothing.
    let replica = cluster.fail_over(master).await;
    assert_eq!(get(&cluster, replica, &alice).await.as_deref(), Some("1"));
    assert_eq!(cluster.master_of(&names, "alice").await, replica);
    assert_eq!(cluster.fail_over(replica).await, master);

    // The replica does not know what was written while it was frozen.
    let tail = key_of(&names, partitions[0]);
    let port = cluster.node(master).port();
    let new = cluster
        .lose_tail(master, async || write_at(port, &tail).await)
        .await;
    assert_eq!(get(&cluster, new, &alice).await.as_deref(), Some("1"));
    assert_eq!(get(&cluster, new, &tail).await, None);

    // The killed node is a replica, and has the data.
    cluster.start_again(master).await;
    cluster.node(master).has_caught_up().await;
    assert_eq!(cluster.masters().await.len(), 3);
    assert_eq!(cluster.fail_over(new).await, master);
    assert_eq!(get(&cluster, master, &alice).await.as_deref(), Some("1"));

    // A frozen master is replaced, and follows.
    cluster.votes_have_expired(master).await;
    cluster.freeze(master);
    assert_eq!(cluster.failed_over(master).await, new);
    cluster.thaw(master);
    cluster.node(master).has_caught_up().await;

    // A fast restart loses the data, and the master stays.
    cluster.restart_empty(new).await;
    assert_eq!(cluster.master_of(&names, "alice").await, new);
    assert_eq!(get(&cluster, new, &alice).await, None);
}

#[tokio::test]
async fn slots_move_and_nodes_join_and_leave() {
    let mut cluster = RedisCluster::start().await;
    let names = names();
    let slot = names.slot(3);
    let [from, to] = [0, 2];
    assert_eq!(cluster.master_of_slot(slot).await, from);
    let keys: Vec<_> = (0..300)
        .map(|number| names.all(&format!("user:{number}")).swap_remove(3))
        .collect();
    for key in &keys {
        set(&cluster, from, key, "1").await;
    }

    // Keys that have moved are at the new master, and others at the old one.
    let open = cluster.open_slot(slot, to).await;
    open.move_keys(&keys[..1]).await;
    let refused = async |words: &[&str]| {
        let answer = cluster.node(from).try_command::<redis::Value>(words).await;
        answer
            .err()
            .and_then(|error| error.code().map(str::to_owned))
    };
    assert_eq!(refused(&["GET", &keys[0]]).await.as_deref(), Some("ASK"));
    assert_eq!(refused(&["GET", &keys[1]]).await, None);
    let both = ["MGET", &keys[0], &keys[1]];
    assert_eq!(refused(&both).await.as_deref(), Some("TRYAGAIN"));
    assert_eq!(cluster.master_of_slot(slot).await, from);
    open.finish().await;
    assert_eq!(cluster.master_of_slot(slot).await, to);
    for key in &keys {
        assert_eq!(get(&cluster, to, key).await.as_deref(), Some("1"));
    }

    // A master that joins has no slot at first, and stays a master without any.
    let added = cluster.add_node().await;
    assert_eq!(cluster.masters().await, [0, 1, 2]);
    cluster.move_slot(slot, added).await;
    assert_eq!(cluster.masters().await, [0, 1, 2, added]);
    assert_eq!(get(&cluster, added, &keys[7]).await.as_deref(), Some("1"));
    if cluster.moves_slots_atomically().await {
        cluster.move_slot_atomically(slot, 1).await;
    } else {
        cluster.move_slot(slot, 1).await;
    }
    assert_eq!(get(&cluster, 1, &keys[7]).await.as_deref(), Some("1"));
    cluster.remove_last_node().await;
    assert_eq!(cluster.masters().await, [0, 1, 2]);

    cluster.announce("localhost").await;
    eventually_true("the host is known", async || {
        let slots: redis::Value = cluster.node(5).command(&["CLUSTER", "SLOTS"]).await;
        format!("{slots:?}").matches("localhost").count() >= 6
    })
    .await;
}
