//! Random traffic over three instances on a cluster with random faults, and the invariants that must hold.
//!
//! `PRESENCE_SOAK` sets the length of the faults, such as `5m`. `PRESENCE_SOAK_SEED` repeats the faults of another run.

mod callers;
mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use harness::client::{Client, crowd, send};
use harness::instance::Instance;
use harness::names::Names;
use harness::serial::run_alone;
use harness::sse::{Event, EventSource, Habits, Heard, Memory, Stream, alternating};
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;
use serde_json::json;
use tokio::time::Instant;

use self::callers::{Callers, Refusal};
use self::faults::Harm;
use super::scene::{Scene, settings};
use crate::failures::scene::all_ready;
use crate::failures::traffic::{Told, Traffic};

/// The length of a run without `PRESENCE_SOAK`.
const SHORT: Duration = Duration::from_secs(10);

/// The TTL is longer than a failover, and a client may miss a ping. The history has all events of a long run, which are
/// read in the end. The log has the cause of each refusal.
const VARIABLES: [(&str, &str); 4] = [
    ("PRESENCE_TTL", "6s"),
    ("PRESENCE_PING_INTERVAL", "2s"),
    ("PRESENCE_HISTORY", "6h"),
    ("RUST_LOG", "info,presence::http::error_response=debug"),
];

/// By then wrong departures would have shown: a TTL and a hold.
const SETTLING: Duration = Duration::from_secs(9);

const LIVING: usize = 30;

/// The TTL of a marker, longer than the checks.
const MARKED_MS: u64 = 600_000;

fn living() -> Vec<String> {
    crowd("living", LIVING)
}

/// A user in each partition, connected after everything else.
fn markers(names: &Names) -> BTreeSet<String> {
    let mut marked = vec![false; names.partitions()];
    let users = (0..).map(|number| format!("marker-{number}"));
    let new = |user: &String| !std::mem::replace(&mut marked[names.partition_of(user)], true);
    users.filter(new).take(names.partitions()).collect()
}

fn start_readers(
    clients: &[Client],
    names: &Names,
) -> Vec<(EventSource, Option<BTreeSet<String>>)> {
    let mut some: BTreeSet<String> = living().into_iter().step_by(3).collect();
    some.extend(crowd("roaming", 6));
    some.extend(markers(names));
    let list: Vec<&str> = some.iter().map(String::as_str).collect();
    let filtered = format!("?userIds={}", list.join(","));
    let queries = [("", None), ("", None), (&*filtered, Some(some.clone()))];
    let readers = queries
        .into_iter()
        .enumerate()
        .map(|(number, (query, about))| {
            let habits = Habits {
                query: query.to_owned(),
                memory: Memory::Cursor,
                rest: Duration::ZERO,
            };
            (EventSource::start(clients, number, habits), about)
        });
    readers.collect()
}

/// The length of the faults and the seed, which the test prints.
fn plan() -> (Duration, u64) {
    let length = env::var("PRESENCE_SOAK").map(|text| humantime(&text));
    let seed = env::var("PRESENCE_SOAK_SEED").map(|text| text.parse().expect("a number"));
    let (length, seed) = (
        length.unwrap_or(SHORT),
        seed.unwrap_or_else(|_| fastrand::u64(..)),
    );
    println!(
        "PRESENCE_SOAK={}s PRESENCE_SOAK_SEED={seed}",
        length.as_secs()
    );
    (length, seed)
}

/// Each refused call is explained by a fault.
fn assert_excused(refusals: &[Refusal], harms: &[Harm], names: &Names) {
    let is_excused = |refusal: &Refusal| harms.iter().any(|harm| harm.explains(refusal, names));
    let unexcused = refusals.iter().filter(|each| !is_excused(each));
    let unexcused: Vec<_> = unexcused.map(|each| (&each.user, each.at)).collect();
    assert!(unexcused.is_empty(), "{unexcused:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute of its own; `make soak-cluster` runs it"]
async fn random_faults_of_a_cluster_break_no_invariant() {
    run_alone();
    let (length, seed) = plan();
    let mut scene = Scene::with(&VARIABLES).await;
    let others = [
        Instance::start(&settings(&scene.redis, &VARIABLES)).await,
        Instance::start(&settings(&scene.redis, &VARIABLES)).await,
    ];
    let mut clients = vec![scene.client.clone()];
    clients.extend(others.iter().map(Instance::client));
    all_ready(&clients).await;
    let beginning = Stream::open(&scene.client, "").await.last_id();
    let readers = start_readers(&clients, &scene.names);
    eventually_true("every stream is open", async || {
        readers.iter().all(|(reader, _)| reader.has_begun())
    })
    .await;
    scene.client.connect_each(&living()).await;
    let callers = Callers::start(&living(), &clients);
    let traffic = Traffic::start(4, &crowd("roaming", 12), &clients);

    let stalls = Arc::new(Mutex::new(Vec::new()));
    let watch = faults::watch_the_machine(scene.names.clone(), Arc::clone(&stalls));
    let watcher = tokio::spawn(watch);
    let sources: Vec<&EventSource> = readers.iter().map(|(reader, _)| reader).collect();
    let end = Instant::now() + length;
    let mut harms = faults::until(end, &mut scene, &sources, &mut Rng::with_seed(seed)).await;

    all_ready(&clients).await;
    let told = traffic.stop().await;
    Timestamp::now().plus(SETTLING).pass().await;
    let reference = read_all(&scene, &clients, &beginning).await;
    check_events(&reference, &told);
    for (number, (reader, about)) in readers.iter().enumerate() {
        check_reader(number, reader, about.as_ref(), &reference, &scene.names).await;
    }
    for client in &clients {
        assert_eq!(client.online_among(&living()).await, living());
        assert_eq!(client.everyone().await, clients[0].everyone().await);
    }
    // The checks of a long run take longer than the TTL.
    let (calls, refusals) = callers.stop().await;
    println!("{calls} pings, {} of them refused", refusals.len());
    watcher.abort();
    harms.append(&mut stalls.lock().expect("no task panicked"));
    assert_excused(&refusals, &harms, &scene.names);
}

fn humantime(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().expect("a number and a unit");
    Duration::from_secs(match unit {
        "s" => number,
        "m" => number * 60,
        "h" => number * 3_600,
        _ => panic!("{text} has no unit s, m or h"),
    })
}

/// All events since `beginning`, as another instance tells them. Connects the markers.
async fn read_all(scene: &Scene, clients: &[Client], beginning: &str) -> Vec<Event> {
    let mut missing = markers(&scene.names);
    for marker in &missing {
        let connect = clients[0].of_user(marker, "connect");
        let answer = send(connect.json(&json!({"ttlMs": MARKED_MS}))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let mut stream = Stream::resume(&clients[1], "", beginning).await;
    let told_all = |event: &Event| {
        missing.remove(&event.user());
        missing.is_empty()
    };
    stream.collect_until(told_all).await
}

/// Checks the events of each user, and that callers were told of no transition without an event.
fn check_events(reference: &[Event], told: &Told) {
    assert!(reference.iter().all(Event::is_change), "a reset");
    let histories = alternating(reference);
    for user in living() {
        assert_eq!(histories[&user], ["online"], "{user}");
    }
    for (user, (online, offline)) in told {
        let history = histories.get(user).cloned().unwrap_or_default();
        let count = |what: &str| history.iter().filter(|event| *event == what).count();
        assert!(count("online") >= *online, "{user}: {history:?}");
        assert!(count("disconnected") >= *offline, "{user}: {history:?}");
    }
}

/// Checks that a reader has the events of the reference, each once and in the order of each user.
async fn check_reader(
    number: usize,
    reader: &EventSource,
    about: Option<&BTreeSet<String>>,
    reference: &[Event],
    names: &Names,
) {
    let markers = markers(names);
    eventually_true("a reader has heard all markers", async || {
        let heard = heard(reader);
        markers.iter().all(|marker| heard.contains_key(marker))
    })
    .await;
    let mut expected = by_user(reference.iter());
    expected.retain(|user, _| about.is_none_or(|about| about.contains(user)));
    let heard = heard(reader);
    let unexpected: Vec<_> = heard
        .keys()
        .filter(|user| !expected.contains_key(*user))
        .collect();
    assert!(
        unexpected.is_empty(),
        "reader {number}: {unexpected:?} {:?}",
        heard.get("")
    );
    for (user, told) in &expected {
        assert_eq!(heard.get(user), Some(told), "{user} of reader {number}");
    }
}

fn heard(reader: &EventSource) -> BTreeMap<String, Vec<(String, String)>> {
    let log = reader.log();
    let events = log.iter().filter_map(|entry| match &entry.what {
        Heard::Event(event) => Some(event),
        _ => None,
    });
    by_user(events)
}

/// Name and data of the events of each user. Events without a user are under the empty name.
fn by_user<'a>(events: impl Iterator<Item = &'a Event>) -> BTreeMap<String, Vec<(String, String)>> {
    let mut told = BTreeMap::<_, Vec<_>>::new();
    for event in events {
        let what = (event.name.clone(), event.data.clone());
        told.entry(event.user()).or_default().push(what);
    }
    told
}
