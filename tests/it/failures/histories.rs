//! Both stores and a small reference model run the same random histories.
//!
//! The clocks are real. The model evaluates an answer at the moments just before and just after the call. If the model
//! gives the same answer at both, the store must give it too. If a deadline lies between them, either answer is right.
//! Many histories run concurrently.

mod clock;
mod groups;
mod model;
mod steps;
mod stores;
mod stories;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use harness::redis_cluster::RedisCluster;
use harness::redis_server::RedisServer;
use harness::serial::run_quietly;
use harness::wait::PATIENCE;
use presence::model::{Closing, PageCursor, Stated};
use presence::model::{ConnectionId, Entry, GroupId, PartitionSet, Position, UserId};
use presence::store::{Readiness, Store, StoreError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use tokio::task::JoinSet;

use self::groups::{group_id, most_members, selected};
use self::model::{Bracket, Grant, Model, Touch, TouchCall};
use self::steps::{Step, step};
use self::stores::{on_cluster, on_redis, open};

/// The grants of the two instances: long enough for a few calls, and short enough for many expiries.
const GRANTS: [Grant; 2] = [
    Grant {
        ttl: Duration::from_millis(150),
        ping_interval: Duration::from_millis(40),
    },
    Grant {
        ttl: Duration::from_millis(400),
        ping_interval: Duration::from_millis(100),
    },
];

/// A time without sweeps that is an outage for these grants.
const STALL: Duration = Duration::from_millis(700);

/// One less than the number of connection ids.
const MOST_CONNECTIONS: usize = 2;

const USERS: [&str; 3] = ["ann", "b ob", "çé"];
const CONNECTIONS: [&str; 3] = ["1", "a", "b"];
const GROUPS: [&str; 2] = ["den", "hall"];

/// The connection at which the user is always away. At the others it is away if the second instance got the call.
const AWAY: &str = "a";

/// Sweeps all partitions.
async fn sweep(store: &Store) {
    let nodes = store.nodes().borrow().to_vec();
    let all = PartitionSet::all(store.partitions());
    let mut swept = 0;
    for node in nodes {
        swept += store
            .sweep(node, all)
            .await
            .expect("the store answers")
            .len();
    }
    assert_eq!(swept, store.partitions().count());
}

/// The stores of one history.
struct Scene {
    /// Since when the stores exist.
    opened: Bracket,
    stores: Vec<Store>,
    /// The most members of a group.
    most_members: usize,
    /// The Redis server of this history, whose clock may be set.
    clock: Option<Arc<RedisServer>>,
}

impl Scene {
    fn of(number: usize, open: impl FnOnce() -> Vec<Store>) -> Self {
        Self {
            opened: Bracket::open(0),
            stores: open(),
            most_members: most_members(number),
            clock: None,
        }
    }
}

struct Run {
    /// One store, as one instance or as two instances with different settings.
    stores: Vec<Arc<Store>>,
    model: Model,
    most_members: usize,
    /// The Redis server whose clock is set, and how far it is ahead of the true time.
    clock: Option<Arc<RedisServer>>,
    ahead_ms: i64,
    users: Vec<UserId>,
    /// The newest known position of each partition.
    heard: Vec<Position>,
}

impl Run {
    async fn play(scene: Scene, steps: Vec<(usize, Step)>) {
        let stores: Vec<Arc<Store>> = scene.stores.into_iter().map(Arc::new).collect();
        let mut supervision = JoinSet::new();
        for store in &stores {
            let store = Arc::clone(store);
            supervision.spawn(async move { store.supervise().await });
        }
        for store in &stores {
            let reached = async {
                while store.check().await != Readiness::Ready {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let reached = tokio::time::timeout(PATIENCE, reached).await;
            reached.expect("the store is reached");
        }
        let users = USERS.map(|user| UserId::new(user).expect("a good id"));
        let partitions = stores[0].partitions();
        let apart: BTreeSet<_> = users.iter().map(|user| partitions.of(user)).collect();
        assert_eq!(apart.len(), users.len().min(partitions.count()));
        let mut run = Self {
            stores,
            model: Model::new(MOST_CONNECTIONS, scene.most_members, scene.opened),
            most_members: scene.most_members,
            clock: scene.clock,
            ahead_ms: 0,
            users: users.to_vec(),
            heard: vec![Position::START; partitions.count()],
        };
        // A store in Redis is used for the first time when something is read.
        let store = Arc::clone(&run.stores[0]);
        run.check_events(&store).await;
        run.model.began(scene.opened.close(0));
        for (instance, step) in steps {
            let instance = instance % run.stores.len();
            run.step(instance, &step).await;
        }
    }

    async fn step(&mut self, instance: usize, step: &Step) {
        let store = Arc::clone(&self.stores[instance]);
        let bracket = Bracket::open(self.ahead_ms);
        match *step {
            Step::Touch(kind, user, connection, groups) => {
                let groups = selected(&[group_id(0), group_id(1)], groups);
                self.touch(instance, (kind, user, connection), &groups)
                    .await;
            }
            Step::Disconnect(user, connection) => {
                let (user, connection) = self.names(user, connection);
                self.disconnect(&store, &user, Closing::One(connection))
                    .await;
            }
            Step::Leave(user, connection, grace) => {
                let (user, connection) = self.names(user, connection);
                let closing = Closing::Later(connection, Duration::from_millis(grace));
                self.disconnect(&store, &user, closing).await;
            }
            Step::DisconnectAll(user) => {
                let user = self.users[user].clone();
                self.disconnect(&store, &user, Closing::All).await;
            }
            Step::Look(user) => {
                let found = store.user(&self.users[user]).await;
                let found = found.expect("the store answers");
                self.model
                    .looked(bracket.close(self.ahead_ms), &self.users[user], &found);
            }
            Step::LookAtAll => self.look_at_all(&store).await,
            Step::Replace(group, members) => self.replace(&store, group, members).await,
            Step::ReplaceWithMany(group, members) => {
                self.replace_with_many(&store, group, members).await;
            }
            Step::Change(group, users) => self.change(&store, group, users).await,
            Step::LookAtGroup(group, user) => self.look_at_group(&store, group, user).await,
            Step::Sweep => {
                sweep(&store).await;
                self.model.swept(bracket.close(self.ahead_ms));
            }
            Step::Pass(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Stall => tokio::time::sleep(STALL).await,
            Step::SetClock(by_ms) => self.set_clock(instance, by_ms).await,
        }
        self.check_events(&store).await;
    }

    async fn touch(
        &mut self,
        instance: usize,
        (kind, user, connection): (Touch, usize, usize),
        groups: &[GroupId],
    ) {
        let store = Arc::clone(&self.stores[instance]);
        let (user, connection) = self.names(user, connection);
        let away = instance == 1 || connection.as_str() == AWAY;
        let stated = Stated {
            away,
            groups: groups.into(),
            ..Stated::default()
        };
        let bracket = Bracket::open(self.ahead_ms);
        let touched = match kind {
            Touch::Connect => store.connect(&user, &connection, &stated).await,
            Touch::Ping => store.ping(&user, &connection, &stated).await,
        };
        let at = bracket.close(self.ahead_ms);
        let touched = match touched {
            Ok(touched) => Ok(touched),
            Err(StoreError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("the store answers: {error}"),
        };
        let call = TouchCall {
            kind,
            grant: GRANTS[instance],
            away,
            groups,
        };
        self.model.touched(at, call, &user, &connection, touched);
    }

    async fn disconnect(&mut self, store: &Store, user: &UserId, closing: Closing) {
        let bracket = Bracket::open(self.ahead_ms);
        let left = store.disconnect(user, &closing).await;
        let left = left.expect("the store answers");
        self.model
            .left(bracket.close(self.ahead_ms), user, &closing, left);
    }

    async fn look_at_all(&mut self, store: &Store) {
        let bracket = Bracket::open(self.ahead_ms);
        let among = store.online_among(&self.users).await.expect("an answer");
        self.model
            .looked_among(bracket.close(self.ahead_ms), &self.users, &among);
        let bracket = Bracket::open(self.ahead_ms);
        let count = store.count().await.expect("an answer");
        self.model.counted(bracket.close(self.ahead_ms), count);
        let announced = store.announced_among(&self.users).await.expect("an answer");
        for (partition, _, at) in &announced.at {
            assert_eq!(*at, self.heard[partition.index()]);
        }
        let asked = announced.at.iter().map(|(partition, ..)| *partition);
        let users = self.users.iter().map(|user| store.partitions().of(user));
        assert_eq!(asked.collect::<BTreeSet<_>>(), users.collect());
        self.model.listed(announced.users);
        let mut listed = Vec::new();
        let mut cursor = Some(PageCursor::START);
        while let Some(from) = cursor {
            let page = store.announced_page(&from, 2).await.expect("an answer");
            assert!(page.users.len() <= 2, "a page of at most two");
            listed.extend(page.users);
            cursor = page.next;
        }
        self.model.listed(listed);
    }

    /// Each call is followed by exactly the events of its answer.
    async fn check_events(&mut self, store: &Store) {
        let partitions = store.partitions();
        for entry in self.new_entries(store).await {
            match &entry {
                Entry::Event(event) => self.model.announced(event),
                Entry::Group(event) => self.model.announced_member(event, partitions),
                Entry::Unknown { .. } => panic!("an unknown entry"),
            }
        }
        self.model.nothing_untold();
    }

    async fn new_entries(&mut self, store: &Store) -> Vec<Entry> {
        let mut found = Vec::new();
        let partitions = store.partitions();
        let of_users = self.users.iter().map(|user| partitions.of(user));
        let of_groups = (0..GROUPS.len()).map(|group| partitions.of_group(&group_id(group)));
        for partition in of_users.chain(of_groups).collect::<BTreeSet<_>>() {
            let heard = &mut self.heard[partition.index()];
            let history = store.history(partition, *heard, 100).await;
            let history = history.expect("an answer");
            assert!(history.continues(*heard), "no event is missing");
            for entry in history.entries {
                assert_eq!(entry.previous(), *heard, "each names the one before");
                *heard = entry.position();
                found.push(entry);
            }
        }
        found
    }

    fn names(&self, user: usize, connection: usize) -> (UserId, ConnectionId) {
        let connection = ConnectionId::new(CONNECTIONS[connection]).expect("a good id");
        (self.users[user].clone(), connection)
    }
}

/// Plays `many` histories of 80 steps concurrently, three times.
fn play_many(many: usize, open: impl Fn(usize) -> Scene) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cases = Cases {
        cases: 3,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Cases::default()
    };
    let many = vec(vec(step(), 80), many);
    let number = std::cell::Cell::new(0);
    let played = TestRunner::new(cases).run(&many, |histories| {
        runtime.block_on(async {
            let mut runs = JoinSet::new();
            for steps in histories {
                number.set(number.get() + 1);
                runs.spawn(Run::play(open(number.get()), steps));
            }
            while let Some(ended) = runs.join_next().await {
                ended.map_err(|panic| TestCaseError::fail(panic.to_string()))?;
            }
            Ok(())
        })
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
}

#[test]
fn the_embedded_store_behaves_as_the_model() {
    run_quietly();
    play_many(32, |number| {
        Scene::of(number, || vec![open(GRANTS[0], number, &[])])
    });
}

#[test]
fn two_instances_on_one_redis_behave_as_the_model() {
    run_quietly();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let redis = runtime.block_on(RedisServer::start());
    play_many(32, |number| Scene::of(number, || on_redis(&redis, number)));
}

#[test]
#[ignore = "takes a minute; `make soak-cluster` runs it"]
fn two_instances_on_a_cluster_behave_as_the_model() {
    run_quietly();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let redis = runtime.block_on(RedisCluster::start());
    play_many(16, |number| {
        Scene::of(number, || on_cluster(&redis, number))
    });
}

/// Each history has its own Redis server, because it sets the clock.
#[test]
fn stores_with_a_changing_redis_clock_behave_as_the_model() {
    run_quietly();
    const MANY: usize = 8;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut servers = Vec::new();
    for _ in 0..MANY {
        servers.push(Arc::new(runtime.block_on(RedisServer::start_with_clock())));
    }
    play_many(MANY, |number| {
        let redis = &servers[number % MANY];
        redis.set_clock_ahead(0);
        Scene {
            clock: Some(Arc::clone(redis)),
            ..Scene::of(number, || on_redis(redis, number))
        }
    });
}
