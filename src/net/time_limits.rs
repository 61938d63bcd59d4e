//! The time limits of a connection that hyper serves. hyper has no time limit for slow readers, and its time limit for
//! heads would set a timer for each request.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::activity::RequestActivity;
use super::in_flight::InFlight;

/// How often a connection is checked.
const STEP: Duration = Duration::from_secs(1);

/// The most steps for a head, from its first byte on.
pub(super) const HEAD_STEPS: u32 = 10;

/// How many steps a head may take once the drain has begun.
pub(super) const DRAIN_HEAD_STEPS: u32 = 1;

/// The steps after which a request takes long. Most calls are answered within 2 s; a wait for events is not.
const LONG_REQUEST_STEPS: u32 = 3;

/// Maximum number of steps in a row in which a client reads nothing of a response.
const BLOCKED_STEPS: u32 = 30;

/// Maximum number of these steps if all permits are taken.
const BLOCKED_STEPS_WHEN_FULL: u32 = 3;

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The drain has begun: end after the request in progress.
    Drain,
    /// The connection is idle.
    Idle,
    /// The client is too slow: close the connection.
    TooSlow,
}

/// Counts the steps in which a client reads nothing of a response.
#[derive(Debug, Default)]
struct BlockedSteps {
    written: u64,
    steps: u32,
}

impl BlockedSteps {
    /// Counts a step. Returns the steps since the client read something.
    fn count(&mut self, activity: &RequestActivity) -> u32 {
        let written = activity.written();
        let is_blocked = activity.is_blocked() && written == self.written;
        self.written = written;
        self.steps = if is_blocked { self.steps + 1 } else { 0 };
        self.steps
    }
}

/// Resolves once an HTTP/1 connection has been idle for a step, its client is too slow, or it is evicted. A head may
/// take `head_steps`. Until then, records requests that take long.
pub(super) async fn http1(
    activity: &RequestActivity,
    in_flight: &InFlight,
    head_steps: u32,
) -> Verdict {
    tokio::select! {
        verdict = idle_or_slow(activity, in_flight, head_steps) => verdict,
        () = activity.evicted() => {
            if activity.is_between_requests() {
                Verdict::Idle
            } else {
                Verdict::TooSlow
            }
        }
    }
}

async fn idle_or_slow(
    activity: &RequestActivity,
    in_flight: &InFlight,
    max_head_steps: u32,
) -> Verdict {
    let mut requests = activity.requests();
    let (mut head_steps, mut request_steps) = (0, 0);
    let mut blocked = BlockedSteps::default();
    loop {
        sleep(STEP).await;
        let has_no_new_request = requests == activity.requests();
        requests = activity.requests();
        if activity.is_idle() && has_no_new_request {
            return Verdict::Idle;
        }
        let max_blocked = if in_flight.is_full() {
            BLOCKED_STEPS_WHEN_FULL
        } else {
            BLOCKED_STEPS
        };
        if blocked.count(activity) >= max_blocked {
            return Verdict::TooSlow;
        }
        let reads_head = has_no_new_request && activity.is_between_requests();
        head_steps = if reads_head { head_steps + 1 } else { 0 };
        if head_steps >= max_head_steps {
            return Verdict::TooSlow;
        }
        let is_same_request = has_no_new_request && activity.in_progress() > 0;
        request_steps = if is_same_request {
            request_steps + 1
        } else {
            0
        };
        if request_steps >= LONG_REQUEST_STEPS {
            activity.record_long_request();
        }
    }
}

/// Resolves once an HTTP/2 client has sent no request for `keep_alive` and at most two steps more, or is too slow.
pub(super) async fn http2(activity: &RequestActivity, keep_alive: Duration) -> Verdict {
    let keep_alive = u32::try_from(keep_alive.as_secs()).unwrap_or(u32::MAX);
    let keep_alive = keep_alive.saturating_add(1);
    let mut requests = activity.requests();
    let (mut idle, mut blocked) = (0, BlockedSteps::default());
    loop {
        sleep(STEP).await;
        activity.record_second();
        if blocked.count(activity) >= BLOCKED_STEPS {
            return Verdict::TooSlow;
        }
        let is_idle = requests == activity.requests() && activity.in_progress() == 0;
        requests = activity.requests();
        idle = if is_idle { idle + 1 } else { 0 };
        let max_idle = if requests == 0 {
            HEAD_STEPS
        } else {
            keep_alive
        };
        if idle >= max_idle {
            return Verdict::Idle;
        }
    }
}

/// Resolves once an HTTP/2 connection that was evicted must be closed: if its client made no progress for `grace` and
/// all its requests still wait for the client. Otherwise the next eviction decides.
pub(super) async fn http2_eviction(activity: &RequestActivity, grace: Duration) {
    loop {
        let evicted = Instant::now();
        sleep(grace).await;
        if activity
            .stalled_since()
            .is_some_and(|since| since < evicted)
        {
            return;
        }
        activity.evicted().await;
    }
}

/// Resolves once an HTTP/2 connection that was told to end must be closed: after `grace` if it has no request then,
/// otherwise after its requests, or if its client is too slow.
pub(super) async fn http2_end(activity: &RequestActivity, grace: Duration) {
    sleep(grace).await;
    if activity.in_progress() == 0 {
        return;
    }
    let (mut idle, mut blocked) = (0, BlockedSteps::default());
    while idle < HEAD_STEPS && blocked.count(activity) < BLOCKED_STEPS {
        sleep(STEP).await;
        idle = if activity.in_progress() == 0 {
            idle + 1
        } else {
            0
        };
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(500);

    /// The verdict on a client that reads one byte of its response each `pause`, and its time.
    async fn verdict(pause: Duration) -> Option<(Verdict, Duration)> {
        let in_flight = InFlight::http1(2);
        let permit = in_flight.acquire(true).await;
        let activity = &permit.activity;
        let _request = activity.begin_request();
        let began = Instant::now();
        let reads = async {
            loop {
                activity.record_blocked_write();
                sleep(pause).await;
                activity.record_write(1);
            }
        };
        let verdict = async {
            tokio::select! {
                verdict = http1(activity, &in_flight, HEAD_STEPS) => (verdict, began.elapsed()),
                () = reads => (Verdict::Idle, LONG),
            }
        };
        timeout(LONG, verdict).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_for_30_s_is_too_slow() {
        assert_eq!(verdict(Duration::from_secs(20)).await, None);
        let (verdict, after) = verdict(LONG).await.expect("a verdict");
        assert_eq!(verdict, Verdict::TooSlow);
        assert_eq!(after.as_secs(), 30);
    }
}
