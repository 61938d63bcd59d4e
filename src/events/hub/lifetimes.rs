//! When a stream is told that it lives, and when it ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::events::sse::payload::EndReason;
use crate::events::subscriber::Subscriber;

/// Every stream is looked at once in this many ticks: every 12 s, under the 15 s promised.
const ROUND_TICKS: usize = 120;

/// How long the reader of an ended stream has to take what waits, and then as long again for the
/// reason.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// The same during a shutdown, as a part of the time over which the streams are ended.
const END_PART_OF_DRAIN: f64 = 0.1;

/// The lifetimes of all open streams.
#[derive(Debug)]
pub(crate) struct Lifetimes {
    wheel: Vec<HashMap<u64, Arc<Subscriber>>>,
    tick: usize,
    /// When each stream takes its next step towards its end.
    steps: BTreeMap<(Instant, u64), (Arc<Subscriber>, Step)>,
    next_step: HashMap<u64, Instant>,
    end_patience: Duration,
    /// Set by a shutdown: when the last stream has to end.
    drained_at: Option<Instant>,
}

/// What happens next to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It ends, with this reason.
    End(EndReason),
    /// What waits is dropped.
    DropQueues,
    /// It is over.
    Finish,
}

impl Lifetimes {
    pub(crate) fn new() -> Self {
        Self {
            wheel: (0..ROUND_TICKS).map(|_| HashMap::new()).collect(),
            tick: 0,
            steps: BTreeMap::new(),
            next_step: HashMap::new(),
            end_patience: END_PATIENCE,
            drained_at: None,
        }
    }

    /// Adds a stream that ends at this time, for this reason, or with a shutdown.
    pub(crate) fn add(
        &mut self,
        subscriber: &Arc<Subscriber>,
        (mut at, mut reason): (Instant, EndReason),
    ) {
        if let Some(backlog_taken) = self.drained_at.map(until)
            && backlog_taken < at
        {
            (at, reason) = (backlog_taken, EndReason::Draining);
        }
        self.wheel[place(subscriber.id)].insert(subscriber.id, Arc::clone(subscriber));
        self.schedule(subscriber, at, Step::End(reason));
    }

    /// Forgets a stream; false where that was done already.
    pub(crate) fn remove(&mut self, subscriber: &Subscriber) -> bool {
        if self.wheel[place(subscriber.id)]
            .remove(&subscriber.id)
            .is_none()
        {
            return false;
        }
        if let Some(at) = self.next_step.remove(&subscriber.id) {
            self.steps.remove(&(at, subscriber.id));
        }
        true
    }

    pub(crate) fn has(&self, subscriber: &Subscriber) -> bool {
        self.wheel[place(subscriber.id)].contains_key(&subscriber.id)
    }

    /// How many parts the streams are in, for who looks at all of them.
    pub(crate) const fn parts() -> usize {
        ROUND_TICKS
    }

    /// The streams of one part.
    pub(crate) fn part(&self, part: usize) -> impl Iterator<Item = &Arc<Subscriber>> {
        self.wheel[part % ROUND_TICKS].values()
    }

    /// The number of the part whose turn it is.
    pub(crate) fn turn(&mut self) -> usize {
        self.tick = (self.tick + 1) % ROUND_TICKS;
        self.tick
    }

    /// Gives the reader of a stream that has ended some time to hear why, if it is not closed yet.
    pub(crate) fn ended(&mut self, subscriber: &Arc<Subscriber>) {
        if self.has(subscriber) {
            self.schedule(subscriber, Instant::now() + self.end_patience, Step::Finish);
        }
    }

    /// Takes the steps whose time has come; the streams that are over by now.
    pub(crate) fn take_steps(&mut self, now: Instant) -> Vec<Arc<Subscriber>> {
        let mut over = Vec::new();
        while let Some(entry) = self.steps.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (subscriber, step) = entry.remove();
            self.next_step.remove(&subscriber.id);
            let next = match step {
                Step::End(reason) => {
                    subscriber.end(reason);
                    Step::DropQueues
                }
                Step::DropQueues => {
                    subscriber.drop_queues();
                    Step::Finish
                }
                Step::Finish => {
                    subscriber.finish();
                    over.push(subscriber);
                    continue;
                }
            };
            self.schedule(&subscriber, now + self.end_patience, next);
        }
        over
    }

    /// Spreads the ends of all streams over `time`, also of those that are still to be opened.
    pub(crate) fn drain(&mut self, time: Duration) {
        let drained_at = Instant::now() + time;
        self.drained_at = Some(drained_at);
        self.end_patience = time.mul_f64(END_PART_OF_DRAIN).min(END_PATIENCE);
        let steps = std::mem::take(&mut self.steps);
        for ((mut at, _), (subscriber, mut step)) in steps {
            let end = until(drained_at);
            if end < at && matches!(step, Step::End(_)) {
                (at, step) = (end, Step::End(EndReason::Draining));
            }
            self.schedule(&subscriber, at, step);
        }
    }

    /// Sets when the stream takes its next step, in the place of what was set before.
    fn schedule(&mut self, subscriber: &Arc<Subscriber>, at: Instant, step: Step) {
        if let Some(before) = self.next_step.insert(subscriber.id, at) {
            self.steps.remove(&(before, subscriber.id));
        }
        self.steps
            .insert((at, subscriber.id), (Arc::clone(subscriber), step));
    }
}

/// A random moment between now and `end`.
fn until(end: Instant) -> Instant {
    let now = Instant::now();
    now + end.saturating_duration_since(now).mul_f64(fastrand::f64())
}

fn place(id: u64) -> usize {
    (id % ROUND_TICKS as u64) as usize
}
