//! Random traffic over three instances with random faults, and the invariants that must hold.
//!
//! The run has phases. In most phases Redis keeps its data: no stream is reset, no call is refused outside the stated
//! time of a fault, and no departure is later than one hold explains. In short phases between them Redis loses its
//! data. The report shows what was excused and why.
//!
//! `PRESENCE_SOAK` sets the length of the faults, such as `5m`. `PRESENCE_SOAK_SEED` repeats the faults and the traffic
//! of another run.

mod callers;
mod checks;
mod faults;
mod journal;
pub(super) mod plan;
mod readers;
mod report;
mod stage;

use std::env;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use harness::client::Client;
use harness::groups;
use harness::serial::run_alone;
use harness::sse::EventSource;
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;
use tokio::time::{Instant, timeout};

use callers::{Caller, Callers, ROOM, contested, is_in_room, living, roaming, sleepers};
use checks::Findings;
use journal::Journal;
use plan::Phase;
use readers::{MARKER, Reader, Tale};
use stage::{HOLD, Stage, TTL};

/// By then all departures are announced: the delay by an outage, and the TTL, which passes meanwhile.
const SETTLING: Duration =
    Duration::from_millis((TTL.as_millis() + 2 * HOLD.as_millis()) as u64 + 1_000);

/// The longest wait of a reader for the last events, also of a slow reader.
const CATCHING_UP: Duration = Duration::from_secs(10);

/// Prints how to repeat a failing run.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("to repeat it: PRESENCE_SOAK_SEED={}", self.0);
        }
    }
}

fn seed() -> Seed {
    let chosen = env::var("PRESENCE_SOAK_SEED").map(|text| text.parse());
    let chosen = chosen.map(|seed| seed.expect("PRESENCE_SOAK_SEED is a number"));
    Seed(chosen.unwrap_or_else(|_| fastrand::u64(..)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_break_no_invariant() {
    run_alone();
    let (seed, duration) = (seed(), plan::duration());
    println!(
        "PRESENCE_SOAK={}s PRESENCE_SOAK_SEED={}",
        duration.as_secs(),
        seed.0
    );
    let mut rng = Rng::with_seed(seed.0);
    let journal = Journal::default();
    let mut stage = Stage::set(&journal).await;
    let clients = stage.clients();
    let watched = journal.clone();
    let watcher = tokio::spawn(async move { watched.watch_the_machine().await });
    let mut readers = readers::start(&clients);
    eventually_true("every stream is open", async || {
        readers.iter().all(|reader| reader.source.has_begun())
    })
    .await;
    let steady = Callers::steady(&clients, &journal, &mut rng);
    let restless = Callers::restless(&clients, &journal, &mut rng);
    let caller = Callers::patient(&clients, &journal, &mut rng);

    for (phase, length) in plan::phases(duration, &mut rng) {
        let end = Instant::now() + length;
        go_through(
            phase, &mut stage, &readers, &caller, &mut rng, &journal, end,
        )
        .await;
        readers.iter_mut().for_each(Reader::listen);
    }

    stage.all_ready().await;
    restless.stop().await;
    Timestamp::now().plus(SETTLING).pass().await;
    let mut wrong = disagreements(&clients).await;
    wrong.extend(read_to_the_end(&clients[0], &readers).await);
    journal.record().ended = Some(Timestamp::now());
    steady.stop().await;
    watcher.abort();
    let tales: Vec<Tale> = readers.into_iter().map(Reader::into_tale).collect();
    let findings = Findings::of(&tales, &journal.record(), wrong);
    report::print(&tales, &journal.record(), &findings);
    assert!(findings.wrong.is_empty(), "{}", findings.worst());
    report::assert_telling(&journal.record(), &findings, duration);
}

/// Runs the faults of `phase` until `end`.
async fn go_through(
    phase: Phase,
    stage: &mut Stage,
    readers: &[Reader],
    caller: &Caller,
    rng: &mut Rng,
    journal: &Journal,
    end: Instant,
) {
    let sources: Vec<&EventSource> = readers.iter().map(|reader| &reader.source).collect();
    let (one, other) = (rng.fork(), rng.fork());
    match phase {
        Phase::Faults => {
            tokio::join!(
                faults::harm_instances(&mut stage.seats, one, journal, end),
                faults::harm_redis(&stage.redis, &sources, other, journal, end),
            );
        }
        Phase::Denial(denied) => faults::deny(denied, stage, caller, one, journal, end).await,
        Phase::Losses => {
            tokio::join!(
                faults::harm_instances(&mut stage.seats, one, journal, end),
                faults::lose_data(&mut stage.redis, other, journal, end),
            );
        }
    }
}

/// The instances whose lookups do not return exactly the pinging users.
async fn disagreements(clients: &[Client]) -> Vec<String> {
    let everyone = [living(), roaming(), contested(), sleepers()].concat();
    let expected = living();
    let mut wrong = Vec::new();
    for (instance, client) in clients.iter().enumerate() {
        let mut one_by_one = Vec::new();
        for user in &everyone {
            if client.user(user).await.online {
                one_by_one.push(user.clone());
            }
        }
        let counted = client.count().await;
        let looked_up = client.online_among(&everyone).await;
        for (call, found) in [
            ("one by one", one_by_one),
            ("listed", client.everyone().await),
            ("looked up", looked_up),
        ] {
            if found != expected {
                wrong.push(format!("instance {instance}, {call}: {found:?}"));
            }
        }
        if counted != expected.len() as u64 {
            wrong.push(format!("instance {instance} counts {counted}"));
        }
        let group = groups::get(client, ROOM).await;
        let mut members = expected.clone();
        members.retain(|user| is_in_room(user));
        if group.members != members.len() || group.online != members {
            wrong.push(format!("instance {instance}: {group:?}"));
        }
    }
    wrong
}

/// Waits until every reader has the last event, and reports the readers that do not.
async fn read_to_the_end(client: &Client, readers: &[Reader]) -> Vec<String> {
    // The group has it first, so that the readers of the group hear of it too.
    groups::patch(client, ROOM, &[MARKER], &[]).await;
    client.connect(MARKER).await;
    let behind = || {
        let behind = readers.iter().filter(|each| !each.source.is_up_to(MARKER));
        behind.map(Reader::last_words).collect::<Vec<_>>()
    };
    let up_to_date = eventually_true("every reader is up to date", async || behind().is_empty());
    match timeout(CATCHING_UP, up_to_date).await {
        Ok(()) => Vec::new(),
        Err(_) => behind(),
    }
}
