//! What happened, as those saw it who made it happen: every call, every fault.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use harness::timestamp::Timestamp;
use tokio::time::sleep;

/// How long after its time-out, or its refusal, a call may still be carried out: it may lie in the socket of a frozen
/// process, or on the way to a frozen Redis.
const AFTERMATH: Duration = Duration::from_secs(10);

/// How far the moment that a clock was set may differ from what the journal says.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(30);

/// How often it is looked whether the machine has time for this process, and from what delay on it had none.
const TICK: Duration = Duration::from_millis(100);
const HICCUP: Duration = Duration::from_millis(700);

/// The reason why nothing can be held against the service while the machine stood still.
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
    },
    Left {
        became_offline: bool,
    },
    /// The instance lives.
    Lives,
    /// 503 with the advice to come back.
    Refused,
    /// 409: the connection was closed a moment ago.
    Closed,
    /// No answer, and why.
    Unanswered(String),
    /// An answer that the contract does not know.
    Wrong(String),
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) user: String,
    pub(super) verb: Verb,
    /// `None`: all of the user's.
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

    /// Whether it may have been carried out without the caller being told.
    pub(super) fn is_uncertain(&self) -> bool {
        matches!(self.outcome, Outcome::Refused | Outcome::Unanswered(_))
    }

    /// When it was carried out at the latest, if at all.
    pub(super) fn over(&self) -> Timestamp {
        match self.is_uncertain() {
            true => self.ended.plus(AFTERMATH),
            false => self.ended,
        }
    }
}

/// A time in which something was so.
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

/// A fault during which calls may be refused or not be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Harm {
    pub(super) fault: &'static str,
    /// `None`: all instances.
    instance: Option<usize>,
    /// From its beginning until a stated time for the recovery has passed.
    pub(super) span: Span,
}

/// A time in which no instance could sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub(super) from: Timestamp,
    /// When an instance may have swept again, at the earliest.
    pub(super) ended: Timestamp,
    /// When some instance has swept again, at the latest.
    pub(super) swept: Timestamp,
}

/// How far the clock of Redis was ahead of the true one, from a moment on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) from: Timestamp,
    pub(super) ahead_ms: i64,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) calls: Vec<Call>,
    pub(super) harms: Vec<Harm>,
    /// When no instance could sweep, in the order of time.
    pub(super) pauses: Vec<Pause>,
    /// When Redis lost its data.
    pub(super) losses: Vec<Span>,
    pub(super) clock: Vec<Clock>,
    /// When the machine had no time for this process, as its own clock tells.
    pub(super) busy: Vec<Span>,
    /// From when on what had not happened yet is not known to anybody.
    pub(super) ended: Option<Timestamp>,
    /// How often each fault was survived.
    pub(super) faults: BTreeMap<&'static str, usize>,
}

impl Record {
    /// The fault that excuses that a call was not carried out as it should have been.
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

    /// The latest time that the clock of Redis showed in a time: after it was set back it shows less.
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

    /// When something happened that Redis stamped with its own clock, and that was heard of at a moment: after the
    /// clock was set back there may be several answers.
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

/// Written to by all.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Record>>);

/// A fault that goes on.
pub(super) struct Ongoing(usize);

impl Journal {
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().expect("no writer panicked")
    }

    pub(super) fn survived(&self, fault: &'static str) {
        *self.record().faults.entry(fault).or_default() += 1;
    }

    /// The instance, or each of them, cannot be held to its promises until [`Journal::mended`].
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

    /// The fault is over, and what it did will be after `recovery`.
    pub(super) fn mended(&self, fault: &Ongoing, recovery: Duration) {
        let to = Timestamp::now().plus(recovery);
        self.record().harms[fault.0].span.to = Some(to);
    }

    /// Nobody could sweep from `from` until `ended`, and somebody can in `recovery` from now.
    pub(super) fn paused(&self, from: Timestamp, ended: Timestamp, recovery: Duration) {
        self.record().pauses.push(Pause {
            from,
            ended,
            swept: Timestamp::now().plus(recovery),
        });
    }

    /// Redis lost everything at some moment since `from`.
    pub(super) fn lost(&self, from: Timestamp) {
        let to = Some(Timestamp::now());
        self.record().losses.push(Span { from, to });
    }

    /// The clock of Redis was set.
    pub(super) fn clock_is_ahead(&self, ahead_ms: i64) {
        let from = Timestamp::now();
        self.record().clock.push(Clock { from, ahead_ms });
    }

    /// Notes when this process gets no time, for as long as it is polled: then nor do the instances.
    pub(super) async fn watch_the_machine(&self) {
        loop {
            let from = Timestamp::now();
            sleep(TICK).await;
            let to = Timestamp::now();
            if to.millis_after(from) > (TICK + HICCUP).as_millis() as i64 {
                let to = Some(to.plus(HICCUP));
                self.record().busy.push(Span { from, to });
            }
        }
    }
}
