//! All instances are denied the processor or Redis again and again. A departure is held once only.

use std::time::Duration;

use fastrand::Rng;
use harness::process::Signal;
use harness::timestamp::Timestamp;
use tokio::time::{Instant, sleep};

use super::super::callers::{Caller, sleepers};
use super::super::journal::{Journal, Verb};
use super::super::stage::Stage;
use super::instances::answers;
use super::redis::stall;
use super::{CATCHES_UP, FINDS_REDIS};

/// The length of a denial, in milliseconds. Each one is an outage.
const DENIAL_MS: std::ops::Range<u64> = 1_600..2_000;

/// The time that an instance runs for each request, and that Redis answers between two stalls. It is shorter than a
/// hold and long enough to sweep.
const AWAKE: Duration = Duration::from_millis(800);

/// The longest time from the end of a denial to the first sweep.
const WAKES_UP: Duration = Duration::from_millis(300);

/// What is denied.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Denied {
    Processor,
    Redis,
}

impl Denied {
    pub(super) const ALL: [Self; 2] = [Self::Processor, Self::Redis];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Processor => "all instances throttled (SIGSTOP between requests)",
            Self::Redis => "Redis stalls again and again (DEBUG SLEEP)",
        }
    }

    pub(in super::super) fn other(self) -> Self {
        match self {
            Self::Processor => Self::Redis,
            Self::Redis => Self::Processor,
        }
    }
}

/// Denies `what` again and again until `end`. Meanwhile some users connect and do not ping.
pub(in super::super) async fn deny(
    what: Denied,
    stage: &Stage,
    caller: &Caller,
    mut rng: Rng,
    journal: &Journal,
    end: Instant,
) {
    for (number, user) in sleepers().iter().enumerate() {
        let instance = number % stage.seats.len();
        let connection = Some(if number.is_multiple_of(2) {
            "1"
        } else {
            "phone"
        });
        caller.call(user, Verb::Connect, connection, instance).await;
    }
    let harm = journal.harmed(what.name(), None);
    while Instant::now() < end {
        let length = Duration::from_millis(rng.u64(DENIAL_MS));
        match what {
            Denied::Processor => throttle(stage, length, journal).await,
            Denied::Redis => stall(&stage.redis, length, journal, WAKES_UP).await,
        }
        sleep(AWAKE).await;
    }
    let recovery = match what {
        Denied::Processor => CATCHES_UP,
        Denied::Redis => FINDS_REDIS,
    };
    journal.mended(&harm, recovery);
    journal.survived(what.name());
}

async fn throttle(stage: &Stage, length: Duration, journal: &Journal) {
    let from = Timestamp::now();
    for seat in &stage.seats {
        seat.instance.send(Signal::Stop);
    }
    sleep(length).await;
    let ended = Timestamp::now();
    for seat in &stage.seats {
        seat.instance.send(Signal::Continue);
    }
    for seat in &stage.seats {
        answers(&seat.instance.client()).await;
    }
    journal.stood_still(from, ended, WAKES_UP);
}
