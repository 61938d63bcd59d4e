//! What happened, as those saw it who made it happen: every call, every fault.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::timestamp::Timestamp;

/// How long after its time-out, or its refusal, a call may still be carried out: it may lie in the socket of a frozen
/// process, or on the way to a frozen Redis.
const AFTERMATH: Duration = Duration::from_secs(10);

/// How long an instance that was frozen may take for what had piled up.
const AFTER_A_FREEZE: Duration = Duration::from_secs(1);

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
    /// How long the caller would have waited.
    pub(super) patience: Duration,
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

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) calls: Vec<Call>,
    /// When each instance was killed, ending or frozen.
    pub(super) harmed: Vec<(usize, Span)>,
    /// When Redis lost its data.
    pub(super) losses: Vec<Span>,
    /// How often each fault was survived.
    pub(super) faults: BTreeMap<&'static str, usize>,
}

impl Record {
    pub(super) fn was_harmed(&self, call: &Call) -> bool {
        let here = self.harmed.iter().filter(|(at, _)| *at == call.instance);
        here.into_iter()
            .any(|(_, span)| span.overlaps(call.sent, call.ended))
    }
}

/// Written to by all.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Record>>);

impl Journal {
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().expect("no writer panicked")
    }

    pub(super) fn survived(&self, fault: &'static str) {
        *self.record().faults.entry(fault).or_default() += 1;
    }

    /// The instance cannot be held to its promises until [`Journal::unharmed`].
    pub(super) fn harmed(&self, instance: usize) {
        let from = Timestamp::now();
        let span = Span { from, to: None };
        self.record().harmed.push((instance, span));
    }

    pub(super) fn unharmed(&self, instance: usize) {
        let to = Timestamp::now().plus(AFTER_A_FREEZE);
        let mut record = self.record();
        let open = record.harmed.iter_mut().rev();
        let mut open = open.filter(|(at, span)| *at == instance && span.to.is_none());
        open.next().expect("it was harmed").1.to = Some(to);
    }

    /// Redis lost everything at some moment since `from`.
    pub(super) fn lost(&self, from: Timestamp) {
        let to = Some(Timestamp::now());
        self.record().losses.push(Span { from, to });
    }
}
