//! Back ends that change one group at the same time, and instances that die while they do.

use std::collections::BTreeSet;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use harness::client::{Client, crowd, try_send};
use harness::deployment::Deployment;
use harness::groups::{count, of_group, online, patch, put};
use harness::instance::{Instance, Settings};
use harness::names::Names;
use harness::proxy::Proxy;
use harness::redis_server::RedisServer;
use harness::wait::{eventually, eventually_true};
use presence::config::Config;
use presence::model::{ConnectionId, GroupId, Stated, UserId};
use presence::store::{Readiness, Store};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

/// The members of a group as its events tell them. Panics if a user joins twice or leaves without being a member.
pub(super) async fn members_by_events(deployment: &Deployment, group: &str) -> BTreeSet<String> {
    let history = deployment.names().key("events", group);
    let range = ["XRANGE", &history, "-", "+"];
    let entries: Vec<(String, Vec<String>)> = deployment.command(&range).await;
    let mut members = BTreeSet::new();
    for (id, fields) in entries {
        let (_, event) = fields[1]
            .split_once(' ')
            .expect("the id of the entry before");
        let mut ids = event.split('\u{1f}');
        let head: Vec<_> = ids.next().expect("a head").split(' ').collect();
        match head[..] {
            ["j", _, name] if name == group => {
                for user in ids {
                    assert!(
                        members.insert(user[1..].to_owned()),
                        "{id}: {user} joins twice"
                    );
                }
            }
            ["l", _, _, name] if name == group => {
                for user in ids {
                    assert!(
                        members.remove(user),
                        "{id}: {user} leaves without being a member"
                    );
                }
            }
            _ => {}
        }
    }
    members
}

/// All members: those that are online if everyone is.
async fn members(client: &Client, group: &str) -> BTreeSet<String> {
    let members: BTreeSet<_> = online(client, group, 1_000).await.into_iter().collect();
    assert_eq!(
        count(client, group).await.0,
        members.len(),
        "all are online"
    );
    members
}

#[tokio::test]
async fn changes_of_one_group_at_several_instances_lose_nobody() {
    const CALLERS: usize = 9;
    const ROUNDS: usize = 30;
    let deployment = Deployment::of(3, Settings::new()).await;
    let clients = deployment.clients();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let client = clients[caller % clients.len()].clone();
        callers.spawn(async move {
            let (mut added, mut removed) = (0, 0);
            for round in 0..ROUNDS {
                let (own, last) = (
                    format!("{caller}-{round}"),
                    format!("{caller}-{}", round.wrapping_sub(1)),
                );
                // Everybody adds and removes `shared` too.
                let written = match round % 2 {
                    0 => patch(&client, "team", &[&own, "shared"], &[]).await,
                    _ => patch(&client, "team", &[&own], &[&last, "shared"]).await,
                };
                added += written.added;
                removed += written.removed;
            }
            (added, removed)
        });
    }
    let written = callers.join_all().await;
    let (added, removed) = written.iter().fold((0, 0), |sum, written| {
        (sum.0 + written.0, sum.1 + written.1)
    });
    let left = members_by_events(&deployment, "team").await;
    let own = (0..CALLERS).flat_map(|caller| {
        (0..ROUNDS)
            .filter(|round| round % 2 == 1)
            .map(move |round| format!("{caller}-{round}"))
    });
    let expected: BTreeSet<_> = own.collect();
    let mut stable = left.clone();
    stable.remove("shared");
    assert_eq!(stable, expected);
    assert_eq!(
        added - removed,
        left.len(),
        "the answers agree with the events"
    );
    for client in &clients {
        assert_eq!(count(client, "team").await.0, left.len());
    }
}

#[tokio::test]
async fn of_replacements_that_overlap_one_decides() {
    let deployment = Deployment::of(3, Settings::new()).await;
    let clients = deployment.clients();
    let everyone = crowd("user", 1_600);
    clients[0].connect_each(&everyone).await;
    for _ in 0..3 {
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let client = clients[caller % clients.len()].clone();
            let size = [3, 1_200, 700][caller % 3];
            let list = everyone[caller * 50..caller * 50 + size].to_vec();
            callers.spawn(async move {
                put(&client, "team", &list).await;
                list.into_iter().collect::<BTreeSet<_>>()
            });
        }
        let lists = callers.join_all().await;
        let found = members(&clients[0], "team").await;
        assert!(
            lists.contains(&found),
            "{} members are in no list",
            found.len()
        );
        assert_eq!(members_by_events(&deployment, "team").await, found);
    }
}

#[tokio::test]
async fn a_change_during_a_replacement_is_kept_if_it_is_later() {
    let deployment = Deployment::of(2, Settings::new()).await;
    let clients = deployment.clients();
    let users = crowd("user", 5_000);
    put(&clients[0], "team", &users).await;
    let replacing = {
        let (client, list) = (clients[0].clone(), users[2_000..].to_vec());
        tokio::spawn(async move { put(&client, "team", &list).await })
    };
    let is_decided = || async {
        deployment
            .command::<bool>(&[
                "EXISTS",
                &deployment.names().of_user("group-former", "team"),
            ])
            .await
    };
    while !replacing.is_finished() && !is_decided().await {}
    // A member of both lists, one of the new list only, and a new user.
    let written = patch(
        &clients[1],
        "team",
        &["new"],
        &[&users[4_000], &users[3_000]],
    )
    .await;
    assert_eq!((written.added, written.removed), (1, 2));
    replacing.await.expect("the replacement is answered");
    let found = members_by_events(&deployment, "team").await;
    let mut expected: BTreeSet<_> = users[2_000..].iter().cloned().collect();
    expected.remove(&users[3_000]);
    expected.remove(&users[4_000]);
    expected.insert("new".to_owned());
    assert_eq!(found, expected);
    assert_eq!(count(&clients[1], "team").await.0, expected.len());
}

#[tokio::test]
async fn a_replacement_whose_instance_died_is_finished_by_another() {
    let mut deployment = Deployment::on_one_server(0, Settings::new()).await;
    let proxy = Proxy::to(deployment.redis().port()).await;
    let settings = Settings::new().with("REDIS_URL", &proxy.url());
    let mut doomed = Instance::start(&settings).await;
    let client = doomed.client();
    let users = crowd("user", 6_000);
    put(&client, "team", &users[..4_000]).await;
    proxy.slow(Duration::from_millis(20));
    let is_decided = async || {
        deployment
            .command::<bool>(&[
                "EXISTS",
                &deployment.names().of_user("group-former", "team"),
            ])
            .await
    };
    let calls = {
        let (client, body) = (client.clone(), json!({"members": users[2_000..]}));
        tokio::spawn(async move {
            // A call may take too long on a busy machine before it is decided.
            loop {
                let request = of_group(&client, Method::PUT, "team").json(&body);
                if try_send(request).await.is_err() {
                    return;
                }
            }
        })
    };
    eventually_true("a replacement is under way", is_decided).await;
    doomed.kill();
    calls.await.expect("the calls end with their instance");
    deployment.add_instance().await;
    let client = deployment.client();
    eventually("the replacement is finished", async || {
        let left: Vec<String> = deployment
            .command(&["ZRANGE", &deployment.names().key("puts", "team"), "0", "-1"])
            .await;
        left.is_empty().then_some(())
    })
    .await;
    let expected: BTreeSet<_> = users[2_000..].iter().cloned().collect();
    assert_eq!(members_by_events(&deployment, "team").await, expected);
    assert_eq!(count(&client, "team").await.0, 4_000);
}

/// The record of the groups of a user may be too large, never too small.
#[tokio::test]
async fn every_member_is_recorded_and_former_members_are_forgotten() {
    let deployment = Deployment::of(2, Settings::new()).await;
    let clients = deployment.clients();
    let users = ["alice", "bob", "carol"];
    // So many that one command cannot name them all.
    let many: Vec<_> = (0..5_000).map(|number| format!("user-{number}")).collect();
    put(&clients[0], "large", &many).await;
    put::<&str>(&clients[0], "large", &[]).await;
    let mut callers = JoinSet::new();
    for caller in 0..6 {
        let client = clients[caller % 2].clone();
        callers.spawn(async move {
            for round in 0..40 {
                let group = format!("group-{}", round % 3);
                let user = users[(caller + round) % 3];
                match (caller + round) % 4 {
                    0 => patch(&client, &group, &[], &[user]).await,
                    1 => put(&client, &group, &[user]).await,
                    _ => patch(&client, &group, &[user], &[]).await,
                };
            }
        });
    }
    callers.join_all().await;
    let names = deployment.names();
    let state = async || {
        let (mut stored, mut recorded) = (BTreeSet::new(), BTreeSet::new());
        for user in users {
            let key = names.of_user("user-groups", user);
            let groups: Vec<String> = deployment.command(&["ZRANGE", &key, "0", "-1"]).await;
            recorded.extend(groups.into_iter().map(|group| (user.to_owned(), group)));
        }
        for group in ["group-0", "group-1", "group-2"] {
            let key = names.of_user("group", group);
            let members: Vec<String> = deployment.command(&["SMEMBERS", &key]).await;
            stored.extend(members.into_iter().map(|user| (user, group.to_owned())));
        }
        (stored, recorded)
    };
    let (stored, recorded) = state().await;
    assert!(recorded.is_superset(&stored), "{stored:?} {recorded:?}");
    eventually_true("former members are forgotten", async || {
        let (stored, recorded) = state().await;
        let key = names.of_user("user-groups", &many[0]);
        let remains = deployment.command::<bool>(&["EXISTS", &key]).await;
        stored == recorded && !remains
    })
    .await;
}

/// Finds the groups of a user with 700 of them. Returns how many scripts were called for that.
async fn calls_for_the_groups_of_a_user(redis: &RedisServer, partitions: usize) -> u64 {
    let (url, count) = (redis.url(), partitions.to_string());
    let prefix = format!("{partitions}:");
    let flags = ["presence", "--redis-url", &url, "--key-prefix", &prefix];
    let flags = flags.into_iter().chain(["--partitions", &count]);
    let config = Config::try_parse_from(flags).expect("good flags");
    let store = Arc::new(Store::open(&config).expect("a store"));
    let supervised = Arc::clone(&store);
    let supervision = tokio::spawn(async move { supervised.supervise().await });
    eventually_true("the store is reached", async || {
        store.check().await == Readiness::Ready
    })
    .await;
    let id = |name: &str| GroupId::new(name).expect("a good id");
    let alice = UserId::new("alice").expect("a good id");
    let numbered = (0..700).map(|number| id(&format!("group-{number}")));
    let mut expected: BTreeSet<GroupId> = numbered.collect();
    for group in &expected {
        let written = store.change_group(group, slice::from_ref(&alice), &[]);
        written.await.expect("the store answers");
    }
    let names = Names::new(&prefix, partitions);
    // A PUT has not reached the user yet.
    let stored = names.of_user("group", "group-5");
    let former = names.of_user("group-former", "group-5");
    redis.command::<()>(&["RENAME", &stored, &former]).await;
    // The record names a group that the user has left.
    let left = names.of_user("group", "group-7");
    redis.command::<()>(&["SREM", &left, "alice"]).await;
    expected.remove(&id("group-7"));
    // The user is a member by pinging.
    let stated = Stated {
        groups: [id("room")].into(),
        ..Stated::default()
    };
    let connection = ConnectionId::new("1").expect("a good id");
    let connected = store.connect(&alice, &connection, &stated).await;
    connected.expect("the store answers");
    expected.insert(id("room"));

    let before = redis.calls_of("evalsha").await;
    let found = store.groups_of(&alice).await.expect("the store answers");
    let calls = redis.calls_of("evalsha").await - before;
    supervision.abort();
    assert_eq!(found.len(), expected.len(), "each group once");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    calls
}

/// The groups of a user are read when a stream of own groups opens. Each call that waits for the store takes a place.
#[tokio::test]
async fn the_groups_of_a_user_are_found_by_a_few_calls() {
    let redis = RedisServer::start().await;
    // One call finds the groups in which the user may be, and each other one asks about 300 groups of a partition.
    for (partitions, most) in [(1, 4), (16, 17)] {
        let calls = calls_for_the_groups_of_a_user(&redis, partitions).await;
        assert!(calls <= most, "{calls} calls of {partitions} partitions");
    }
}
