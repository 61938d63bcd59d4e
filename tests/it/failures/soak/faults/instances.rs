//! Faults of one instance.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use harness::client::Client;
use harness::process::Signal;
use harness::wait::eventually_true;
use tokio::time::Instant;

use super::super::journal::Journal;
use super::super::stage::Seat;
use super::{CATCHES_UP, DISTURBANCE_MS, Deck, FINDS_REDIS, FREEZE_MS, RECONNECTS, REST_MS, last};

/// The delay of a slow network, in milliseconds.
const SLOWNESS_MS: Range<u64> = 20..400;

/// The number of pauses of a throttled instance, and their length in milliseconds.
const THROTTLINGS: usize = 3;
const THROTTLING_MS: Range<u64> = 300..2_000;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Frozen,
    Throttled,
    Terminated,
    Cut,
    Refused,
    Slowed,
    Swallowed,
    Deserted,
}

impl Fault {
    const ALL: [Self; 9] = [
        Self::Killed,
        Self::Frozen,
        Self::Throttled,
        Self::Terminated,
        Self::Cut,
        Self::Refused,
        Self::Slowed,
        Self::Swallowed,
        Self::Deserted,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Killed => "instance killed (SIGKILL) and replaced",
            Self::Frozen => "instance frozen (SIGSTOP)",
            Self::Throttled => "instance throttled (SIGSTOP between requests)",
            Self::Terminated => "instance drained (SIGTERM) and replaced",
            Self::Cut => "connections of an instance to Redis cut",
            Self::Refused => "connections of an instance to Redis refused",
            Self::Slowed => "network of an instance to Redis slow",
            Self::Swallowed => "network of an instance to Redis mute",
            Self::Deserted => "connections of an instance to Redis dead in silence",
        }
    }

    /// How long after the fault the instance may still refuse calls.
    fn recovery(self) -> Duration {
        match self {
            Self::Killed | Self::Terminated | Self::Cut => RECONNECTS,
            Self::Frozen | Self::Throttled => CATCHES_UP,
            Self::Refused | Self::Slowed | Self::Swallowed | Self::Deserted => FINDS_REDIS,
        }
    }
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    Fault::ALL.into_iter().map(Fault::name)
}

/// Causes faults of one instance after the other until `end`. Each instance has recovered before the next fault.
pub(in super::super) async fn harm_instances(
    seats: &mut [Seat],
    mut rng: Rng,
    journal: &Journal,
    end: Instant,
) {
    let mut deck = Deck::of(&Fault::ALL);
    while Instant::now() < end {
        let fault = deck.draw(&mut rng);
        let seat = &mut seats[rng.usize(..seats.len())];
        let harm = journal.harmed(fault.name(), Some(seat.number));
        befall(seat, fault, &mut rng).await;
        journal.mended(&harm, fault.recovery());
        journal.survived(fault.name());
        last(&mut rng, REST_MS).await;
    }
}

async fn befall(seat: &mut Seat, fault: Fault, rng: &mut Rng) {
    match fault {
        Fault::Killed => {
            seat.instance.kill();
            last(rng, DISTURBANCE_MS).await;
            seat.replace().await;
        }
        Fault::Terminated => {
            seat.instance.send(Signal::Terminate);
            let status = seat.instance.exit().await;
            assert_eq!(status.code(), Some(0));
            seat.replace().await;
        }
        Fault::Frozen => {
            seat.instance.send(Signal::Stop);
            last(rng, FREEZE_MS).await;
            seat.instance.send(Signal::Continue);
        }
        Fault::Throttled => {
            for _ in 0..THROTTLINGS {
                seat.instance.send(Signal::Stop);
                last(rng, THROTTLING_MS).await;
                seat.instance.send(Signal::Continue);
                answers(&seat.instance.client()).await;
            }
        }
        Fault::Cut => seat.proxy.cut_all(),
        Fault::Deserted => seat.proxy.lose_open_connections(),
        Fault::Refused => {
            seat.proxy.refuse();
            last(rng, DISTURBANCE_MS).await;
        }
        Fault::Slowed => {
            let delay = Duration::from_millis(rng.u64(SLOWNESS_MS));
            seat.proxy.slow(delay);
            last(rng, DISTURBANCE_MS).await;
        }
        Fault::Swallowed => {
            seat.proxy.freeze();
            last(rng, DISTURBANCE_MS).await;
        }
    }
    seat.proxy.pass();
}

/// Sends a request to an instance that has just continued, and waits for the answer.
pub(super) async fn answers(client: &Client) {
    eventually_true("the instance answers", async || {
        client.get("/livez").await.status == 200
    })
    .await;
}
