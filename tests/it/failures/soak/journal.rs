//! The record of every call and every fault.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use harness::timestamp::Timestamp;
use tokio::time::sleep;

/// How long after its time-out or refusal a call may still be carried out: it may wait in the socket of a frozen
/// process, or on the way to a frozen Redis.
const AFTERMATH: Duration = Duration::from_secs(10);

/// The accuracy of the recorded time of a step of the clock.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(30);

/// The interval of the check whether this process gets the processor, and the delay from which on it did not.
const TICK: Duration = Duration::from_millis(100);
const HICCUP: Duration = Duration::from_millis(700);

/// A delay of this length can be an outage for the connections of this test: the last sweep may have been a heartbeat
/// earlier, and a gap of more than 750 ms is one.
const STALL: Duration = Duration::from_millis(450);

/// The latest sweep after such a delay.
const SWEEPS: Duration = Duration::from_millis(300);

/// The reason for which violations are excused while the machine was too busy.
pub(super) const BUSY: &str = "the machine had no time for the test itself";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Connect,
    Ping,
    Disconnect,
    /// `GET /livez`.
    Look,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Touched {
        became_online: bool,
        expires_at: Timestamp,
        /// Whether the groups that the connection stated accepted the user.
        is_in_groups: bool,
    },
    Left {
        became_offline: bool,
    },
    /// The instance is live.
    Lives,
    /// 503 with `Retry-After`.
    Refused,
    /// 409, because the connection was closed a moment ago.
    Closed,
    /// No answer, with the error.
    Unanswered(String),
    /// An answer that the contract does not allow.
    Wrong(String),
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) user: String,
    pub(super) verb: Verb,
    /// `None` for all connections of the user.
    pub(super) connection: Option<&'static str>,
    pub(super) instance: usize,
    pub(super) sent: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) outcome: Outcome,
}

impl Call {
    pub(super) fn is_touch(&self) -> bool {
        matches!(self.verb, Verb::Connect | Verb::Ping)
    }

    /// Whether the call may have been carried out without an answer.
    pub(super) fn is_uncertain(&self) -> bool {
        matches!(self.outcome, Outcome::Refused | Outcome::Unanswered(_))
    }

    /// The latest time at which the call can have taken effect.
    pub(super) fn over(&self) -> Timestamp {
        if self.is_uncertain() {
            self.ended.plus(AFTERMATH)
        } else {
            self.ended
        }
    }
}

/// A period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    /// `None` while it lasts.
    pub(super) to: Option<Timestamp>,
}

impl Span {
    pub(super) fn overlaps(&self, from: Timestamp, to: Timestamp) -> bool {
        self.from <= to && self.to.is_none_or(|end| from <= end)
    }
}

/// A fault during which calls may be refused or unanswered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Harm {
    pub(super) fault: &'static str,
    /// `None` for all instances.
    instance: Option<usize>,
    /// From the beginning of the fault to the end of the recovery.
    pub(super) span: Span,
}

/// A period in which no instance could sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub(super) from: Timestamp,
    /// The earliest next sweep of an instance.
    pub(super) ended: Timestamp,
    /// The latest next sweep of an instance.
    pub(super) swept: Timestamp,
    /// Whether the processes stood still.
    pub(super) is_still: bool,
}

/// How far the clock of Redis was ahead of the true time from a moment on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) from: Timestamp,
    pub(super) ahead_ms: i64,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) calls: Vec<Call>,
    pub(super) harms: Vec<Harm>,
    /// The periods without sweeps, in order.
    pub(super) pauses: Vec<Pause>,
    /// The losses of data.
    pub(super) losses: Vec<Span>,
    pub(super) clock: Vec<Clock>,
    /// The periods in which the machine was too busy for this process, by the clock of this process.
    pub(super) busy: Vec<Span>,
    /// The end of the observation. Later events are unknown.
    pub(super) ended: Option<Timestamp>,
    /// The number of faults of each kind.
    pub(super) faults: BTreeMap<&'static str, usize>,
}

impl Record {
    /// The calls of each user, in the order of their sending.
    pub(super) fn calls_by_user(&self) -> BTreeMap<&str, Vec<&Call>> {
        let mut calls: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
        for call in &self.calls {
            calls.entry(&call.user).or_default().push(call);
        }
        calls
            .values_mut()
            .for_each(|calls| calls.sort_by_key(|call| call.sent));
        calls
    }

    /// The fault that excuses a refused, late or unanswered call.
    pub(super) fn harm_of(&self, call: &Call) -> Option<&'static str> {
        let here = |harm: &&Harm| harm.instance.is_none_or(|at| at == call.instance);
        let mut harms = self.harms.iter().filter(here);
        let harm = harms.find(|harm| harm.span.overlaps(call.sent, call.ended));
        let busy = || self.was_busy(call.sent, call.ended).then_some(BUSY);
        harm.map(|harm| harm.fault).or_else(busy)
    }

    pub(super) fn was_busy(&self, from: Timestamp, to: Timestamp) -> bool {
        self.busy.iter().any(|span| span.overlaps(from, to))
    }

    /// The latest time that the clock of Redis showed in a period. It shows earlier times after a step back.
    pub(super) fn latest_shown(&self, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
        let shown = self.clock.iter().enumerate().filter_map(|(place, clock)| {
            let next = self
                .clock
                .get(place + 1)
                .map_or(to, |next| next.from.min(to));
            (clock.from <= to && from <= next).then(|| next.later_by(clock.ahead_ms))
        });
        shown.max()
    }

    /// The time that the clock of Redis showed just before a moment.
    pub(super) fn shown_before(&self, moment: Timestamp) -> Timestamp {
        let mut clock = self.clock.iter().rev();
        let clock = clock.find(|clock| clock.from < moment);
        moment.later_by(clock.map_or(0, |clock| clock.ahead_ms))
    }

    /// How much time passed in a period by the clock of Redis, in milliseconds; 0 if it was set back by more.
    pub(super) fn shown_between(&self, from: Timestamp, to: Timestamp) -> i64 {
        let shown = self.shown_before(to);
        shown.millis_after(self.shown_before(from)).max(0)
    }

    /// A deadline by the clock of Redis, corrected for steps back in a period: it is at most a TTL after each.
    pub(super) fn corrected(
        &self,
        deadline: Timestamp,
        ttl: Duration,
        from: Timestamp,
        to: Timestamp,
    ) -> Timestamp {
        let steps = self.clock.iter();
        let steps = steps.filter(|clock| from <= clock.from && clock.from <= to);
        let latest = steps.map(|clock| clock.from.later_by(clock.ahead_ms).plus(ttl));
        latest.fold(deadline, Timestamp::min)
    }

    /// The true times of an event with a time stamp of Redis that was received at a moment. There may be several after
    /// a step back.
    pub(super) fn moments_of(&self, stamp: Timestamp, heard: Timestamp) -> Vec<Timestamp> {
        let mut moments = Vec::new();
        for (place, clock) in self.clock.iter().enumerate() {
            let moment = stamp.later_by(-clock.ahead_ms);
            let next = self.clock.get(place + 1).map(|next| next.from);
            let until = next.unwrap_or(heard).min(heard).plus(CLOCK_TOLERANCE);
            if clock.from.less(CLOCK_TOLERANCE) <= moment && moment <= until {
                moments.push(moment);
            }
        }
        moments
    }
}

/// The journal of all callers and faults.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Record>>);

/// A fault that has not ended.
pub(super) struct Ongoing(usize);

impl Journal {
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().expect("no writer panicked")
    }

    pub(super) fn survived(&self, fault: &'static str) {
        *self.record().faults.entry(fault).or_default() += 1;
    }

    /// Records the beginning of a fault of one instance, or of all.
    pub(super) fn harmed(&self, fault: &'static str, instance: Option<usize>) -> Ongoing {
        let from = Timestamp::now();
        let span = Span { from, to: None };
        let mut record = self.record();
        record.harms.push(Harm {
            fault,
            instance,
            span,
        });
        Ongoing(record.harms.len() - 1)
    }

    /// Records the end of a fault, with the time of the recovery.
    pub(super) fn mended(&self, fault: &Ongoing, recovery: Duration) {
        let to = Timestamp::now().plus(recovery);
        self.record().harms[fault.0].span.to = Some(to);
    }

    /// Records that no instance could sweep from `from` to `ended`, and that one can within `recovery`.
    pub(super) fn paused(&self, from: Timestamp, ended: Timestamp, recovery: Duration) {
        self.record_pause(from, ended, recovery, false);
    }

    /// Records that no instance could sweep from `from` to `ended`, because the processes stood still, and that one can
    /// within `recovery`.
    pub(super) fn stood_still(&self, from: Timestamp, ended: Timestamp, recovery: Duration) {
        self.record_pause(from, ended, recovery, true);
    }

    fn record_pause(&self, from: Timestamp, ended: Timestamp, recovery: Duration, is_still: bool) {
        self.record().pauses.push(Pause {
            from,
            ended,
            swept: Timestamp::now().plus(recovery),
            is_still,
        });
    }

    /// Records that Redis lost its data at some moment since `from`.
    pub(super) fn lost(&self, from: Timestamp) {
        let to = Some(Timestamp::now());
        self.record().losses.push(Span { from, to });
    }

    /// Records a step of the clock of Redis.
    pub(super) fn clock_is_ahead(&self, ahead_ms: i64) {
        let from = Timestamp::now();
        self.record().clock.push(Clock { from, ahead_ms });
    }

    /// Records when this process does not get the processor. Then the instances do not get it either.
    pub(super) async fn watch_the_machine(&self) {
        loop {
            let from = Timestamp::now();
            sleep(TICK).await;
            let to = Timestamp::now();
            let delay_ms = to.millis_after(from) - TICK.as_millis() as i64;
            if delay_ms > STALL.as_millis() as i64 {
                self.stood_still(from, to, SWEEPS);
            }
            if delay_ms > HICCUP.as_millis() as i64 {
                let to = Some(to.plus(HICCUP));
                self.record().busy.push(Span { from, to });
            }
        }
    }
}
