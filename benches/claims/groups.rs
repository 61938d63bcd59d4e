//! The cost of groups: pings of connections that state them, their members in Redis and in an instance, streams of a
//! group beside streams of all users, and the replacement of a large group.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::groups::{patch, put};
use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;
use harness::sse::Stream;
use harness::timestamp::Timestamp;
use tokio::time::sleep;

use crate::measure::calls::{come_and_go, load, paced, post, post_body};
use crate::measure::micros_each;
use crate::measure::report::{Figure, Row, quantile_ms};
use crate::measure::streams::{OUR_EVENT, Readers, get};
use crate::measure::wrk::{REQUESTS, requests, round};

const ROUNDS: usize = 3;
const PING_ROUNDS: usize = 5;
const TRANSITION_ROUNDS: usize = 9;
const USERS: usize = 2_000;

/// The numbers of groups that connections state.
const STATED: [usize; 3] = [0, 1, 5];

const STREAMS: usize = 1_000;
const LASTING: Duration = Duration::from_secs(8);
const SETTLED: Duration = Duration::from_secs(3);

/// A round of transitions. At [`PER_SECOND`], each user connects and disconnects eight times.
const TRANSITIONS_LASTING: Duration = Duration::from_millis(2_560);

/// Long enough for a keep-alive on each stream.
const IDLE: Duration = Duration::from_secs(17);

/// The rate of events of the fan-out, and the users that come and go.
const PER_SECOND: usize = 400;
const COMING: usize = 64;

/// The members of a large group, and the number of large groups that show what a member takes.
const MEMBERS: usize = 10_000;
const GROUPS: usize = 10;

/// The replacements of a large group.
const WRITES: usize = 11;

/// The members by pinging that fall silent, their TTL, and how long their departures may take.
const SILENT: usize = 20_000;
const SHORT_TTL: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(5);
const MARKER: &str = "marker";

const ALL_USERS: &str = "/v1/events";
const TEAM: &str = "/v1/events?groupIds=team";

pub(crate) async fn run() -> Vec<Row> {
    let mut rows = pings().await;
    rows.extend(transitions().await);
    rows.extend(streams().await);
    rows.extend(members().await);
    rows.extend(replacement().await);
    rows.extend(lateness().await);
    rows
}

/// Pings of connections that state no group, one, and five.
async fn pings() -> Vec<Row> {
    let redis = RedisServer::start().await;
    let service = Instance::on(&redis).await;
    let folder = tempfile::tempdir().expect("a folder");
    let files = STATED.map(|groups| folder.path().join(groups.to_string()));
    for (groups, file) in STATED.into_iter().zip(&files) {
        requests(file, (0..USERS).map(|user| stating(groups, user)));
    }
    let (mut rates, mut micros): ([Figure; 3], [Figure; 3]) = Default::default();
    // The first round brings all users online and is not counted.
    for number in 0..=PING_ROUNDS {
        for (place, file) in files.iter().enumerate() {
            let before = redis.process().cpu();
            let round = round(service.process(), &service.url(""), REQUESTS, file);
            let spent = redis.process().cpu() - before;
            if number > 0 {
                rates[place].push(round.per_second);
                micros[place].push(micros_each(spent, round.requests));
            }
        }
    }
    let claim = "pings of connections in groups";
    let mut rows = Vec::new();
    for place in [1, 2] {
        let groups = STATED[place];
        rows.extend([
            Row::new(
                claim,
                format!("groups: {groups}; requests/s over those without"),
                rates[place].over(&rates[0]),
            ),
            Row::new(
                claim,
                format!("groups: {groups}; CPU of Redis over that without"),
                micros[place].over(&micros[0]),
            ),
        ]);
    }
    rows.push(Row::new(
        claim,
        "groups: 0; CPU of Redis, µs",
        micros[0].clone(),
    ));
    rows
}

/// A ping of a user whose connection states `groups` groups of a hundred users.
fn stating(groups: usize, user: usize) -> String {
    let names: Vec<String> = (0..groups)
        .map(|group| format!("\"room-{}-{group}\"", user / 100))
        .collect();
    let names = names.join(",");
    format!("POST /v1/users/in-{groups}-{user}/ping {{\"groups\":[{names}]}}")
}

/// Connects and disconnects of users in ten stored groups, beside those of users in none.
async fn transitions() -> Vec<Row> {
    let sides = [InGroups::open(0).await, InGroups::open(10).await];
    let mut micros: [Figure; 2] = Default::default();
    for _ in 0..TRANSITION_ROUNDS {
        for (side, micros) in sides.iter().zip(&mut micros) {
            micros.push(side.micros_of_transitions().await);
        }
    }
    let claim = "transitions of users in 10 stored groups";
    let [none, ten] = micros;
    vec![
        Row::new(claim, "CPU of Redis over that without", ten.over(&none)).at_most(1.1),
        Row::new(claim, "CPU of Redis, µs", ten),
    ]
}

/// An instance whose users are in stored groups.
struct InGroups {
    redis: RedisServer,
    service: Instance,
}

impl InGroups {
    async fn open(groups: usize) -> Self {
        let redis = RedisServer::start().await;
        let service = Instance::on(&redis).await;
        for group in 0..groups {
            put(&service.client(), &format!("team-{group}"), &coming()).await;
        }
        sleep(SETTLED).await;
        Self { redis, service }
    }

    /// The processor time of Redis for each connect or disconnect, in microseconds.
    async fn micros_of_transitions(&self) -> f64 {
        let cpu = self.redis.process().cpu();
        let address = self.service.address();
        let calls = paced(address, PER_SECOND, TRANSITIONS_LASTING, come_and_go).await;
        micros_each(self.redis.process().cpu() - cpu, calls.len() as u64)
    }
}

/// The users of [`come_and_go`].
fn coming() -> Vec<String> {
    (0..COMING)
        .map(|user| format!("passer-by-{user}"))
        .collect()
}

/// One thousand streams of a group beside as many of all users: their memory, and the cost of an event.
async fn streams() -> Vec<Row> {
    let (mut all_kib, mut team_kib) = (Figure::default(), Figure::default());
    let (mut all_micros, mut team_micros) = (Figure::default(), Figure::default());
    for _ in 0..ROUNDS {
        let (kib, micros) = of_streams(ALL_USERS).await;
        all_kib.push(kib);
        all_micros.push(micros);
        let (kib, micros) = of_streams(TEAM).await;
        team_kib.push(kib);
        team_micros.push(micros);
    }
    let claim = "1,000 streams of a group";
    vec![
        Row::new(
            claim,
            "memory over that of streams of all users",
            team_kib.over(&all_kib),
        )
        .at_most(1.2),
        Row::new(claim, "KiB each", team_kib),
        Row::new(
            claim,
            "CPU of an event at 400 events/s over that of streams of all users",
            team_micros.over(&all_micros),
        ),
        Row::new(claim, "CPU of an event, µs", team_micros),
    ]
}

/// The KiB of a stream, and the processor time of the service for each delivered event in microseconds.
async fn of_streams(path: &str) -> (f64, f64) {
    let redis = RedisServer::start().await;
    let service = Instance::on(&redis).await;
    put(&service.client(), "team", &coming()).await;
    sleep(SETTLED).await;
    let before = service.resident_kib();
    let request = |_| get(path, None);
    let streams = Readers::open(service.address(), STREAMS, OUR_EVENT, 1, request).await;
    sleep(IDLE).await;
    let kib = (service.resident_kib() - before) as f64 / STREAMS as f64;
    let cpu = service.process().cpu();
    let calls = paced(service.address(), PER_SECOND, LASTING, come_and_go).await;
    streams.have_had((calls.len() * STREAMS) as u64).await;
    let micros = micros_each(service.process().cpu() - cpu, streams.events());
    (kib, micros)
}

/// What a stored member takes in Redis, and in an instance with a stream of the group.
async fn members() -> Vec<Row> {
    let redis = RedisServer::start().await;
    let service = Instance::on(&redis).await;
    let client = service.client();
    let before = redis.info("memory", "used_memory").await;
    for group in 0..GROUPS {
        put(&client, &format!("large-{group}"), &members_of(group)).await;
    }
    let in_redis = redis.info("memory", "used_memory").await
        - before
        - redis.memory_of("presence:events").await;
    sleep(SETTLED).await;
    let before = service.resident_kib();
    let watching = |group| {
        let body = format!(r#"{{"groupIds":["large-{group}"]}}"#);
        post_body("/v1/events", "application/json", &body)
    };
    let _streams = Readers::open(service.address(), GROUPS, OUR_EVENT, 1, watching).await;
    sleep(SETTLED).await;
    let in_instance = (service.resident_kib() - before) as f64 * 1_024.0;
    let all = (GROUPS * MEMBERS) as f64;
    let claim = "100,000 members of groups";
    vec![
        Row::new(claim, "bytes of Redis for each", in_redis as f64 / all),
        Row::new(
            claim,
            "bytes of an instance that watches, for each",
            in_instance / all,
        ),
    ]
}

/// The time of a replacement of a large group, and the longest command of Redis meanwhile.
async fn replacement() -> Vec<Row> {
    let redis = RedisServer::start().await;
    let service = Instance::on(&redis).await;
    let client = service.client();
    load(service.address(), MEMBERS, |user| {
        post(&format!("/v1/users/member-{user}/connect"))
    })
    .await;
    redis
        .command::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "100"])
        .await;
    redis
        .command::<()>(&["CONFIG", "SET", "slowlog-max-len", "100000"])
        .await;
    let (mut times, mut longest) = (Figure::default(), Figure::default());
    for number in 0..WRITES {
        redis.command::<()>(&["SLOWLOG", "RESET"]).await;
        times.push(replace(&client, number).await);
        longest.push(longest_command_ms(&redis).await);
    }
    let claim = "replacement of 10,000 members";
    vec![
        Row::new(claim, "ms", times).at_most(200.0),
        Row::new(claim, "longest command of Redis, ms", longest).at_most(3.0),
    ]
}

/// The time of the longest command since the last reset of the slow log, in milliseconds.
async fn longest_command_ms(redis: &RedisServer) -> f64 {
    // The number of the entry, its time, its duration in microseconds, the command, and the address and name of the
    // client.
    type Entry = (u64, u64, u64, Vec<String>, String, String);
    let commands: Vec<Entry> = redis.command(&["SLOWLOG", "GET", "-1"]).await;
    let longest = commands.iter().map(|(_, _, micros, ..)| *micros).max();
    longest.expect("a replacement takes longer than 0.1 ms") as f64 / 1e3
}

/// Members by pinging that stop pinging at the same time, and how late each leaves the group.
async fn lateness() -> Vec<Row> {
    let redis = RedisServer::start().await;
    let settings = Settings::new()
        .with("REDIS_URL", &redis.url())
        .with("PRESENCE_TTL", &format!("{}s", SHORT_TTL.as_secs()))
        .with("PRESENCE_PING_INTERVAL", "8s")
        .with("PRESENCE_GROUP_MEMBERS", &SILENT.to_string());
    let service = Instance::start(&settings).await;
    let client = service.client();
    let mut stream = Stream::open(&client, "?groupIds=hall").await;
    let sent = Timestamp::now();
    let ping = |user| {
        let path = format!("/v1/users/member-{user}/ping");
        post_body(&path, "application/json", r#"{"groups":["hall"]}"#)
    };
    load(service.address(), SILENT, ping).await;
    // The last deadline, and time to announce all.
    sleep(SHORT_TTL + TIMEOUT).await;
    let members: Vec<&str> = vec![MARKER];
    patch(&client, "hall", &members, &[]).await;
    let events = stream.events_before_now(&client, MARKER).await;
    let times = |name: &str| {
        let events = events.iter().filter(|event| event.name == name);
        let times = events.flat_map(|event| {
            let at = event.timestamp().millis_after(sent);
            event
                .listed("userIds")
                .into_iter()
                .map(move |user| (user, at))
        });
        times.collect::<Vec<_>>()
    };
    let joined: HashMap<String, i64> = times("group.joined").into_iter().collect();
    let left = times("group.left");
    let ttl = SHORT_TTL.as_millis() as i64;
    let mut late: Vec<Duration> = Vec::new();
    for (user, at) in &left {
        let late_ms = at - joined[user] - ttl;
        late.push(Duration::from_millis(late_ms.max(0).unsigned_abs()));
    }
    let claim = "20,000 members by pinging fall silent";
    let announced = left.len() as f64 / SILENT as f64 * 100.0;
    vec![
        Row::new(claim, "announced, %", announced).at_least(100.0),
        Row::new(
            claim,
            "p99 of the lateness, ms",
            quantile_ms(&mut late, 0.99),
        )
        .at_most(250.0),
        Row::new(
            claim,
            "p50 of the lateness, ms",
            quantile_ms(&mut late, 0.5),
        ),
    ]
}

/// Replaces half of the members, and returns the time in milliseconds.
async fn replace(client: &Client, number: usize) -> f64 {
    let first = number * MEMBERS / 2;
    let members: Vec<String> = (first..first + MEMBERS)
        .map(|user| format!("member-{user}"))
        .collect();
    let began = Instant::now();
    put(client, "replaced", &members).await;
    began.elapsed().as_secs_f64() * 1e3
}

fn members_of(group: usize) -> Vec<String> {
    let first = group * MEMBERS;
    (first..first + MEMBERS)
        .map(|user| format!("member-{user}"))
        .collect()
}
