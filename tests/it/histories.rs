//! Both stores against a small reference model, on the same random histories.
//!
//! The clocks are real, so an answer can only be judged by the moments just before and just after
//! the call: where the model's answer is the same at both, the store's must be that; where a
//! deadline lies between them, either is right. Many histories run side by side.

mod model;

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use presence::config::Config;
use presence::presence::{ConnectionId, Entry, Position, UserId};
use presence::store::{Closing, PageCursor, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};

use self::model::{Bracket, Model};
use crate::redis_server::RedisServer;

/// Long enough for a few calls, short enough that histories are full of expiries.
const TTL: Duration = Duration::from_millis(150);

const USERS: [&str; 3] = ["ann", "bo b", "çé"];
const CONNECTIONS: [&str; 3] = ["1", "a", "b"];

#[derive(Clone, Debug)]
enum Step {
    Connect(usize, usize),
    Ping(usize, usize),
    Disconnect(usize, usize),
    DisconnectAll(usize),
    Look(usize),
    LookAtAll,
    Sweep,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (user, connection) = (0..USERS.len(), 0..CONNECTIONS.len());
    prop_oneof![
        2 => (user.clone(), connection.clone()).prop_map(|(u, c)| Step::Connect(u, c)),
        4 => (user.clone(), connection.clone()).prop_map(|(u, c)| Step::Ping(u, c)),
        2 => (user.clone(), connection).prop_map(|(u, c)| Step::Disconnect(u, c)),
        1 => user.clone().prop_map(Step::DisconnectAll),
        3 => user.prop_map(Step::Look),
        2 => Just(Step::LookAtAll),
        3 => Just(Step::Sweep),
        4 => (1_u64..80).prop_map(Step::Pass),
    ]
}

struct Run {
    store: Arc<Store>,
    model: Model,
    users: Vec<UserId>,
    heard: Position,
}

impl Run {
    async fn play(store: Store, steps: Vec<Step>) {
        let store = Arc::new(store);
        let supervised = Arc::clone(&store);
        let supervision = tokio::spawn(async move { supervised.supervise().await });
        let users = USERS.map(|user| UserId::new(user).expect("a good id"));
        let model = Model::new(TTL);
        let mut run = Self {
            store,
            model,
            users: users.to_vec(),
            heard: Position::START,
        };
        for step in steps {
            run.step(&step).await;
        }
        supervision.abort();
    }

    async fn step(&mut self, step: &Step) {
        let bracket = Bracket::open();
        match *step {
            Step::Connect(user, connection) => {
                let (user, connection) = self.names(user, connection);
                let touched = self.store.connect(&user, &connection).await;
                let touched = touched.expect("the store answers");
                self.model
                    .touched(bracket.close(), &user, &connection, touched);
            }
            Step::Ping(user, connection) => {
                let (user, connection) = self.names(user, connection);
                let touched = self.store.ping(&user, &connection).await;
                let touched = touched.expect("the store answers");
                self.model
                    .touched(bracket.close(), &user, &connection, touched);
            }
            Step::Disconnect(user, connection) => {
                let (user, connection) = self.names(user, connection);
                self.disconnect(bracket, &user, Closing::One(connection))
                    .await;
            }
            Step::DisconnectAll(user) => {
                let user = self.users[user].clone();
                self.disconnect(bracket, &user, Closing::All).await;
            }
            Step::Look(user) => {
                let found = self.store.user(&self.users[user]).await;
                let found = found.expect("the store answers");
                self.model
                    .looked(bracket.close(), &self.users[user], &found);
            }
            Step::LookAtAll => self.look_at_all().await,
            Step::Sweep => {
                self.store.sweep().await.expect("the store answers");
                self.model.swept(bracket.close());
            }
            Step::Pass(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        self.check_events().await;
    }

    async fn disconnect(&mut self, bracket: Bracket, user: &UserId, closing: Closing) {
        let left = self.store.disconnect(user, &closing).await;
        let left = left.expect("the store answers");
        self.model.left(bracket.close(), user, &closing, left);
    }

    async fn look_at_all(&mut self) {
        let bracket = Bracket::open();
        let among = self
            .store
            .online_among(&self.users)
            .await
            .expect("an answer");
        self.model
            .looked_among(bracket.close(), &self.users, &among);
        let bracket = Bracket::open();
        let count = self.store.count().await.expect("an answer");
        self.model.counted(bracket.close(), count);
        let announced = self
            .store
            .announced_among(&self.users)
            .await
            .expect("an answer");
        assert_eq!(announced.position, self.heard);
        self.model.listed(announced.users);
        let mut listed = Vec::new();
        let mut cursor = Some(PageCursor::START);
        while let Some(from) = cursor {
            let page = self
                .store
                .announced_page(&from, 2)
                .await
                .expect("an answer");
            assert!(page.users.len() <= 2, "a page of at most two");
            listed.extend(page.users);
            cursor = page.next;
        }
        self.model.listed(listed);
    }

    /// Every call is followed by exactly the events that its answer told of.
    async fn check_events(&mut self) {
        let history = self
            .store
            .history(self.heard, 100)
            .await
            .expect("an answer");
        assert!(history.continues(self.heard), "no event is missing");
        for event in history.entries.iter().filter_map(Entry::event) {
            assert_eq!(
                event.previous, self.heard,
                "every event names the one before"
            );
            self.heard = event.position;
            self.model.announced(event);
        }
        self.model.nothing_untold();
    }

    fn names(&self, user: usize, connection: usize) -> (UserId, ConnectionId) {
        let connection = ConnectionId::new(CONNECTIONS[connection]).expect("a good id");
        (self.users[user].clone(), connection)
    }
}

/// Plays 32 histories of 60 steps at once, and that four times.
fn play_many(open: impl Fn(usize) -> Store) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cases = Cases {
        cases: 4,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Cases::default()
    };
    let many = vec(vec(step(), 60), 32);
    let number = std::cell::Cell::new(0);
    let played = TestRunner::new(cases).run(&many, |histories| {
        runtime.block_on(async {
            let mut runs = tokio::task::JoinSet::new();
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

fn config(flags: &[&str]) -> Config {
    let flags = ["presence", "--ttl", "150ms"].iter().chain(flags);
    Config::try_parse_from(flags).expect("good flags")
}

#[test]
fn the_embedded_store_does_what_the_model_does() {
    play_many(|_| Store::open(&config(&[])).expect("a store"));
}

#[test]
fn the_redis_store_does_what_the_model_does() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let redis = runtime.block_on(RedisServer::start());
    play_many(|number| {
        let prefix = format!("history-{number}:");
        let config = config(&["--redis-url", &redis.url(), "--key-prefix", &prefix]);
        Store::open(&config).expect("a store")
    });
}
