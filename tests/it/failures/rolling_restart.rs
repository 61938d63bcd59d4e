//! A rolling restart under load: streams and callers lose nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::client::{Client, crowd, try_send};
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::names::partitions_of_tests;
use harness::process::Signal;
use harness::serial::run_alone;
use harness::sse::{
    Entry, Event, EventSource, Habits, Heard, Memory, Stream, assert_same_changes, late_events,
};
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;
use tokio::task::JoinSet;
use tokio::time::interval;

const INSTANCES: usize = 3;
const STREAMS: usize = 500;
const USERS: usize = 400;

/// The number of callers, and the time between two calls of each: 200 calls a second.
const CALLERS: usize = 20;
const PACE: Duration = Duration::from_millis(100);

/// The drain time.
const DRAIN: Duration = Duration::from_secs(3);

/// The share of the streams of one instance that may end in the same tenth of the drain time. The mean is an eighth,
/// because no stream ends in the last fifth.
const MOST_IN_A_TENTH: f64 = 0.25;

/// The share that may end within the first 100 ms. The mean is a twenty-fourth.
const MOST_AT_ONCE: f64 = 0.12;

/// The results of the callers.
#[derive(Clone, Debug, Default)]
struct Tally {
    calls: usize,
    /// Calls that another instance answered.
    retried: usize,
    /// Calls that the other instance did not answer either.
    lost: Vec<String>,
    /// For each user: the transitions in the answers, and the number of calls with an unknown result.
    told: BTreeMap<String, (usize, usize)>,
}

struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
    /// The number of calls of each caller, including retries.
    calls: Vec<Arc<AtomicUsize>>,
    tally: Arc<Mutex<Tally>>,
}

impl Load {
    fn start(users: &[String], clients: &[Client]) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            callers: JoinSet::new(),
            calls: (0..CALLERS).map(|_| Arc::default()).collect(),
            tally: Arc::default(),
        };
        for number in 0..CALLERS {
            let (users, clients) = (users.to_vec(), clients.to_vec());
            let (stop, tally) = (Arc::clone(&load.stop), Arc::clone(&load.tally));
            let calls = Arc::clone(&load.calls[number]);
            load.callers.spawn(async move {
                let mut pace = interval(PACE);
                for turn in number.. {
                    pace.tick().await;
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let user = &users[fastrand::usize(..users.len())];
                    call(user, &clients, turn, &tally).await;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// Waits until all calls that run now have ended.
    async fn each_has_called_again(&self) {
        for calls in &self.calls {
            let before = calls.load(Ordering::Relaxed);
            eventually_true("a caller has called again", async || {
                calls.load(Ordering::Relaxed) > before
            })
            .await;
        }
    }

    async fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("no caller panicked");
        }
        let tally = self.tally.lock().expect("no caller panicked");
        tally.clone()
    }
}

fn changed_something(answer: &serde_json::Value) -> bool {
    answer["becameOnline"] == true || answer["becameOffline"] == true
}

/// Calls an instance, and the next one if that fails.
async fn call(user: &str, clients: &[Client], turn: usize, tally: &Mutex<Tally>) {
    let verb = ["connect", "disconnect", "ping", "ping", "ping"][fastrand::usize(..5)];
    let mut failures = Vec::new();
    for attempt in 0..2 {
        let client = &clients[(turn + attempt) % clients.len()];
        let failure = match try_send(client.of_user(user, verb)).await {
            // A ping is refused if the connection was closed a moment ago.
            Ok(answer) if answer.status == 200 || answer.status == 409 && verb == "ping" => {
                let changed = answer.status == 200 && changed_something(&answer.ok());
                let mut tally = tally.lock().expect("no caller panicked");
                tally.calls += 1;
                tally.retried += failures.len();
                let (told, untold) = tally.told.entry(user.to_owned()).or_default();
                *told += usize::from(changed);
                *untold += failures.len();
                return;
            }
            // A ping shortly after a disconnect is refused and changes nothing.
            Ok(answer) if answer.status == 409 => {
                let mut tally = tally.lock().expect("no caller panicked");
                tally.calls += 1;
                tally.retried += failures.len();
                return;
            }
            Ok(answer) => format!("{answer:?}"),
            Err(error) => format!("{error:?}"),
        };
        failures.push(format!("{verb} at {}: {failure}", client.base()));
    }
    let mut tally = tally.lock().expect("no caller panicked");
    tally.lost.append(&mut failures);
}

/// The users of a stream; `None` for all users.
fn interest(number: usize) -> Option<BTreeSet<String>> {
    if number.is_multiple_of(10) {
        return None;
    }
    let users = (0..6).map(|each| format!("user-{:05}", (number * 31 + each * 67) % USERS));
    Some(users.chain(["marker".to_owned()]).collect())
}

fn wants_snapshot(number: usize) -> bool {
    number % 4 < 2
}

fn open_all(clients: &[Client]) -> Vec<EventSource> {
    let sources = (0..STREAMS).map(|number| {
        let mut query = format!("?snapshot={}", wants_snapshot(number));
        if let Some(users) = interest(number) {
            let users: Vec<String> = users.into_iter().collect();
            query.push_str(&format!("&userIds={}", users.join(",")));
        }
        let habits = Habits {
            query,
            memory: Memory::Cursor,
            rest: Duration::ZERO,
        };
        EventSource::start(clients, number, habits)
    });
    sources.collect()
}

/// Checks that a stream has the events of the reference for its users, after one snapshot if it asked for one.
fn assert_nothing_lost_or_doubled(number: usize, log: &[Entry], reference: &[Event]) {
    let interest = interest(number);
    let is_ours = |user: &String| interest.as_ref().is_none_or(|users| users.contains(user));
    let events = log.iter().filter_map(|entry| match &entry.what {
        Heard::Event(event) => Some(event),
        _ => None,
    });
    let (changes, others): (Vec<&Event>, Vec<&Event>) = events.partition(|each| each.is_change());
    let expected = reference.iter().filter(|event| is_ours(&event.user()));
    let (changes, expected): (Vec<_>, Vec<_>) = (
        changes.into_iter().cloned().collect(),
        expected.cloned().collect(),
    );
    if partitions_of_tests() == 1 {
        assert_eq!(changes, expected, "stream {number}");
    } else {
        assert_same_changes(&changes, &expected);
    }
    if !wants_snapshot(number) {
        assert!(others.is_empty(), "stream {number}: {others:?}");
        return;
    }
    let names: Vec<&str> = others.iter().map(|event| &*event.name).collect();
    let once = ["presence.snapshot", "presence.ready"];
    assert_eq!(names, once, "stream {number}: {others:?}");
    let present = crowd("user", USERS / 2).into_iter().filter(is_ours);
    assert_eq!(others[0].online(), present.collect::<Vec<_>>());
}

/// The ends of the streams of an instance, in milliseconds after its SIGTERM.
fn ends_after(logs: &[Vec<Entry>], instance: usize, told_to_end: Timestamp) -> Vec<i64> {
    let ends = logs.iter().flatten().filter_map(|entry| match entry.what {
        Heard::Closed(at) if at == instance => Some(entry.at.millis_after(told_to_end)),
        _ => None,
    });
    let drain_ms = DRAIN.as_millis() as i64;
    ends.filter(|after_ms| (0..=drain_ms).contains(after_ms))
        .collect()
}

fn assert_spread_out(ends: &[i64]) {
    assert!(ends.len() > STREAMS / 10, "a tenth: {}", ends.len());
    let share = |from_ms: i64, to_ms: i64| {
        let within = ends.iter().filter(|end| (from_ms..to_ms).contains(end));
        within.count() as f64 / ends.len() as f64
    };
    let tenth_ms = DRAIN.as_millis() as i64 / 10;
    let tenths = (0..10).map(|each| share(each * tenth_ms, (each + 1) * tenth_ms));
    let tenths: Vec<f64> = tenths.collect();
    assert!(
        tenths.iter().all(|share| *share <= MOST_IN_A_TENTH),
        "tenths of the drain: {tenths:.2?}"
    );
    let at_once = share(0, 100);
    assert!(at_once <= MOST_AT_ONCE, "within 100 ms: {at_once:.2}");
}

/// Restarts each instance with SIGTERM at its address, and returns the times of the signals.
async fn restart_each(deployment: &mut Deployment, load: &Load) -> Vec<Timestamp> {
    let mut told_to_end = Vec::new();
    for number in 0..INSTANCES {
        told_to_end.push(Timestamp::now());
        deployment.instances[number].send(Signal::Terminate);
        let status = deployment.instances[number].exit().await;
        assert_eq!(status.code(), Some(0));
        deployment.replace(number).await;
        // A caller that the old instance refused must not meet another instance in its drain.
        load.each_has_called_again().await;
    }
    told_to_end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_no_event_and_no_ping() {
    run_alone();
    let settings = Settings::new().with("PRESENCE_DRAIN", &format!("{}s", DRAIN.as_secs()));
    let mut deployment = Deployment::of(INSTANCES, settings).await;
    let clients = deployment.clients();
    let users = crowd("user", USERS);
    deployment.client().connect_each(&users[..USERS / 2]).await;
    let beginning = Stream::open(&deployment.client(), "").await.last_id();
    let sources = open_all(&clients);
    eventually_true("every stream is open, and has its snapshot", async || {
        sources.iter().enumerate().all(|(number, source)| {
            if wants_snapshot(number) {
                source.has_heard("presence.ready")
            } else {
                source.has_begun()
            }
        })
    })
    .await;

    let load = Load::start(&users, &clients);
    let told_to_end = restart_each(&mut deployment, &load).await;
    let tally = load.stop().await;
    deployment.client().connect("marker").await;
    eventually_true("every stream has heard the last event", async || {
        sources.iter().all(|source| source.is_up_to("marker"))
    })
    .await;

    late_events().await;
    let logs: Vec<Vec<Entry>> = sources.iter().map(EventSource::log).collect();
    assert!(tally.lost.is_empty(), "{:?}", tally.lost);
    assert!(tally.calls > 1_000 && tally.retried > 0, "{tally:?}");
    let client = deployment.client();
    let mut whole = Stream::resume(&client, "", &beginning).await;
    let reference = whole.events_before_now(&client, "marker-2").await;
    assert!(reference.len() > 300, "there was traffic");
    assert_told(&tally, &reference);
    for (number, log) in logs.iter().enumerate() {
        assert_nothing_lost_or_doubled(number, log, &reference);
    }
    for (instance, told_to_end) in told_to_end.into_iter().enumerate() {
        assert_spread_out(&ends_after(&logs, instance, told_to_end));
    }
}

/// Checks that no user expired, that the events of each user alternate, and that exactly one caller got each
/// transition, unless that caller had to repeat its call.
fn assert_told(tally: &Tally, reference: &[Event]) {
    let present = crowd("user", USERS / 2).into_iter();
    let mut last: BTreeMap<String, &str> = present.map(|user| (user, "user.online")).collect();
    let mut events: BTreeMap<String, usize> = BTreeMap::new();
    for event in reference {
        assert_ne!(event.reason(), "expired", "{event:?}");
        let before = last.insert(event.user(), &event.name);
        assert_ne!(before.unwrap_or("user.offline"), event.name, "{event:?}");
        *events.entry(event.user()).or_default() += 1;
    }
    for (user, (told, untold)) in &tally.told {
        let events = events.get(user).copied().unwrap_or_default();
        assert!(
            (*told..=told + untold).contains(&events),
            "{user}: {events} events, {told} told, {untold} unknown"
        );
    }
}
