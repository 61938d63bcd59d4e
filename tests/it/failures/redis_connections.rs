//! The Redis connections of the workers and of the bulk calls, and the main connection of the instance.

use std::time::Duration;

use harness::client::Client;
use harness::instance::{Instance, runtimes, workers};
use harness::redis_server::RedisServer;
use harness::sse::Stream;
use harness::wait::{eventually, eventually_true};
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::time::{Instant, sleep};

use super::scene::settings;

/// Longer than the TTL and than the shortest outage.
const LONG: Duration = Duration::from_secs(5);
const PACE: Duration = Duration::from_millis(200);

struct Watched {
    redis: RedisServer,
    control: MultiplexedConnection,
    instance: Instance,
}

/// The ids of the connections to Redis while no call runs.
struct Connected {
    first: Vec<String>,
    others: Vec<String>,
}

impl Watched {
    async fn start() -> Self {
        let redis = RedisServer::start().await;
        let instance = Instance::start(&settings().with("REDIS_URL", &redis.url())).await;
        Self {
            control: redis.connection().await.expect("Redis is up"),
            redis,
            instance,
        }
    }

    async fn run(&self, words: &[&str]) -> String {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        let answer = command.query_async(&mut self.control.clone()).await;
        answer.unwrap_or_else(|error| panic!("{words:?} failed: {error}"))
    }

    /// The main connection sweeps. The last command of the other connections is `INFO` or `PING`.
    async fn connected(&self) -> Connected {
        let clients = self.run(&["CLIENT", "LIST", "TYPE", "normal"]).await;
        let of = |commands: &[&str]| {
            let lines = clients.lines().filter(|line| {
                let mut fields = line.split(' ');
                fields.any(|field| commands.iter().any(|name| field == format!("cmd={name}")))
            });
            let ids = lines.filter_map(|line| line.split(' ').next()?.strip_prefix("id="));
            ids.map(str::to_owned).collect()
        };
        Connected {
            first: of(&["evalsha"]),
            others: of(&["info", "ping"]),
        }
    }

    async fn all_connected(&self) -> Connected {
        eventually("each has its connection", async || {
            let connected = self.connected().await;
            let all = connected.first.len() == 1 && connected.others.len() == runtimes();
            all.then_some(connected)
        })
        .await
    }

    async fn kill(&self, ids: &[String]) {
        for id in ids {
            self.run(&["CLIENT", "KILL", "ID", id]).await;
        }
    }

    /// A client with a new connection, which the next worker serves.
    fn fresh(&self) -> Client {
        Client::new(self.instance.client().base())
    }
}

#[tokio::test]
async fn calls_use_the_main_connection_when_redis_refuses_more() {
    let watched = Watched::start().await;
    let mut stream = Stream::open(&watched.instance.client(), "").await;
    let connected = watched.all_connected().await;
    watched.fresh().connect("alice").await;
    // The connection of this test, the main connection, and the bus.
    watched.run(&["CONFIG", "SET", "maxclients", "3"]).await;
    watched.kill(&connected.others).await;
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        assert!(!watched.fresh().ping("alice").await.became_online);
        assert_eq!(watched.fresh().online_among(&["alice"]).await, ["alice"]);
        sleep(PACE).await;
    }
    assert!(watched.connected().await.others.is_empty());
    let log = watched.instance.log();
    assert_eq!(
        log.matches("\"redis unreachable\"").count(),
        runtimes(),
        "{log}"
    );
    watched.run(&["CONFIG", "SET", "maxclients", "100"]).await;
    watched.all_connected().await;
    watched.fresh().disconnect("alice").await;
    let told = stream.changes(2).await;
    let names: Vec<&str> = told.iter().map(|event| &*event.name).collect();
    assert_eq!(names, ["user.online", "user.offline"]);
}

#[tokio::test]
async fn worker_connections_follow_the_main_connection_to_a_new_server() {
    let watched = Watched::start().await;
    let before = watched.all_connected().await;
    watched.kill(&before.first).await;
    eventually_true("all others are new, too", async || {
        let now = watched.all_connected().await;
        !now.others.iter().any(|id| before.others.contains(id))
    })
    .await;
    for _ in 0..workers() {
        watched.fresh().ping("alice").await;
    }
    assert_eq!(watched.fresh().online_among(&["alice"]).await, ["alice"]);
}

/// Redis accepts only as many clients as there are, and another client tries to take the place that the bus leaves. A
/// worker that kept its old connection would then shut itself out.
#[tokio::test]
async fn a_worker_closes_its_old_connection_before_it_opens_a_new_one() {
    let watched = Watched::start().await;
    let before = watched.all_connected().await;
    // The main connection, the connection of the bus, and the connection of this test.
    let most = (3 + runtimes()).to_string();
    watched.run(&["CONFIG", "SET", "maxclients", &most]).await;
    watched.kill(&before.first).await;
    // Without a pause: the bus leaves its place only for some milliseconds.
    loop {
        let first = watched.connected().await.first;
        if !first.is_empty() && first != before.first {
            break;
        }
    }
    let mut other = None;
    eventually_true("the old connections are closed", async || {
        // The other client may find no place if the workers have closed their old connections and are connected again.
        if other.is_none() {
            other = watched.redis.connection().await.ok();
        }
        let clients = watched.run(&["CLIENT", "LIST"]).await;
        let is_old = |line: &str| {
            before
                .others
                .iter()
                .any(|id| line.starts_with(&format!("id={id} ")))
        };
        !clients.lines().any(is_old)
    })
    .await;
}
