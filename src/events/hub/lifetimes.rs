//! Times the keep-alives and the ends of streams.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::events::sse::payload::EndReason;
use crate::events::subscriber::Subscriber;

/// Ticks in which every stream has one turn for a keep-alive: 12 s, below the 15 s that the service
/// promises.
const PARTS: usize = 120;

/// How long the reader of an ended stream can take its queue, and then as long again its
/// `presence.end`.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// The same during a drain, as a fraction of the drain time.
const END_FRACTION_OF_DRAIN: f64 = 0.1;

/// The timers of all open streams.
#[derive(Debug)]
pub(crate) struct Lifetimes {
    parts: Vec<HashMap<u64, Arc<Subscriber>>>,
    tick: usize,
    /// The next step of each stream towards its end, by time.
    steps: BTreeMap<(Instant, u64), (Arc<Subscriber>, Step)>,
    next_step: HashMap<u64, Instant>,
    end_timeout: Duration,
    /// When the last stream must end. Set by a drain.
    drained_at: Option<Instant>,
}

/// The next step of a stream towards its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The stream ends for this reason.
    End(EndReason),
    /// The queues of the ended stream are dropped.
    DropQueues,
    /// The stream is closed.
    Close,
}

impl Lifetimes {
    pub(crate) fn new() -> Self {
        Self {
            parts: (0..PARTS).map(|_| HashMap::new()).collect(),
            tick: 0,
            steps: BTreeMap::new(),
            next_step: HashMap::new(),
            end_timeout: END_TIMEOUT,
            drained_at: None,
        }
    }

    /// Adds a stream that ends at this time for this reason, or earlier in a drain.
    pub(crate) fn add(
        &mut self,
        subscriber: &Arc<Subscriber>,
        (mut at, mut reason): (Instant, EndReason),
    ) {
        if let Some(drained) = self.drained_at.map(random_moment_before)
            && drained < at
        {
            (at, reason) = (drained, EndReason::Draining);
        }
        self.parts[part_of(subscriber.id)].insert(subscriber.id, Arc::clone(subscriber));
        self.schedule(subscriber, at, Step::End(reason));
    }

    /// Removes a stream. Returns false if it was removed before.
    pub(crate) fn remove(&mut self, subscriber: &Subscriber) -> bool {
        if self.parts[part_of(subscriber.id)]
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
        self.parts[part_of(subscriber.id)].contains_key(&subscriber.id)
    }

    /// Number of parts that the streams are divided into.
    pub(crate) const fn part_count() -> usize {
        PARTS
    }

    /// Returns the streams of one part.
    pub(crate) fn part(&self, part: usize) -> impl Iterator<Item = &Arc<Subscriber>> {
        self.parts[part % PARTS].values()
    }

    /// Advances to the next part and returns its number.
    pub(crate) fn next_part(&mut self) -> usize {
        self.tick = (self.tick + 1) % PARTS;
        self.tick
    }

    /// Closes an ended stream after a time in which its reader can take `presence.end`. Does
    /// nothing if the stream is closed.
    pub(crate) fn close_later(&mut self, subscriber: &Arc<Subscriber>) {
        if self.has(subscriber) {
            self.schedule(subscriber, Instant::now() + self.end_timeout, Step::Close);
        }
    }

    /// Takes the steps that are due. Returns the streams that are closed now.
    pub(crate) fn take_due_steps(&mut self, now: Instant) -> Vec<Arc<Subscriber>> {
        let mut closed = Vec::new();
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
                    Step::Close
                }
                Step::Close => {
                    subscriber.close();
                    closed.push(subscriber);
                    continue;
                }
            };
            self.schedule(&subscriber, now + self.end_timeout, next);
        }
        closed
    }

    /// Spreads the ends of all streams over `time`, including streams that open later.
    pub(crate) fn drain(&mut self, time: Duration) {
        let drained_at = Instant::now() + time;
        self.drained_at = Some(drained_at);
        self.end_timeout = time.mul_f64(END_FRACTION_OF_DRAIN).min(END_TIMEOUT);
        let steps = std::mem::take(&mut self.steps);
        for ((mut at, _), (subscriber, mut step)) in steps {
            let end = random_moment_before(drained_at);
            if end < at && matches!(step, Step::End(_)) {
                (at, step) = (end, Step::End(EndReason::Draining));
            }
            self.schedule(&subscriber, at, step);
        }
    }

    /// Sets the next step of a stream. Replaces the step that was set before.
    fn schedule(&mut self, subscriber: &Arc<Subscriber>, at: Instant, step: Step) {
        if let Some(before) = self.next_step.insert(subscriber.id, at) {
            self.steps.remove(&(before, subscriber.id));
        }
        self.steps
            .insert((at, subscriber.id), (Arc::clone(subscriber), step));
    }
}

/// Returns a random moment between now and `end`.
fn random_moment_before(end: Instant) -> Instant {
    let now = Instant::now();
    now + end.saturating_duration_since(now).mul_f64(fastrand::f64())
}

fn part_of(id: u64) -> usize {
    (id % PARTS as u64) as usize
}
