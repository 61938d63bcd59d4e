//! When a stream is told that it lives, and when it ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::events::sse::payload::EndReason;
use crate::events::subscriber::Slot;

/// Every stream is looked at once in this many ticks: every 12 s, under the 15 s promised.
const ROUND_TICKS: usize = 120;

/// How long the reader of an ended stream has to take what waits, and then as long again for the
/// reason.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// The same during a shutdown, as a part of the time over which the streams are ended.
const END_PART_OF_DRAIN: f64 = 0.1;

/// The ages of all open streams.
#[derive(Debug)]
pub(crate) struct Ages {
    wheel: Vec<HashMap<u64, Arc<Slot>>>,
    tick: usize,
    /// When each stream takes its next step towards its end.
    steps: BTreeMap<(Instant, u64), (Arc<Slot>, Step)>,
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

impl Ages {
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
    pub(crate) fn add(&mut self, slot: &Arc<Slot>, (mut at, mut reason): (Instant, EndReason)) {
        if let Some(drained) = self.drained_at.map(until)
            && drained < at
        {
            (at, reason) = (drained, EndReason::Draining);
        }
        self.wheel[place(slot.id)].insert(slot.id, Arc::clone(slot));
        self.schedule(slot, at, Step::End(reason));
    }

    /// Forgets a stream; false where that was done already.
    pub(crate) fn remove(&mut self, slot: &Slot) -> bool {
        if self.wheel[place(slot.id)].remove(&slot.id).is_none() {
            return false;
        }
        if let Some(at) = self.next_step.remove(&slot.id) {
            self.steps.remove(&(at, slot.id));
        }
        true
    }

    pub(crate) fn has(&self, slot: &Slot) -> bool {
        self.wheel[place(slot.id)].contains_key(&slot.id)
    }

    /// How many parts the streams are in, for who looks at all of them.
    pub(crate) const fn parts() -> usize {
        ROUND_TICKS
    }

    /// The streams of one part.
    pub(crate) fn part(&self, part: usize) -> impl Iterator<Item = &Arc<Slot>> {
        self.wheel[part % ROUND_TICKS].values()
    }

    /// The number of the part whose turn it is.
    pub(crate) fn turn(&mut self) -> usize {
        self.tick = (self.tick + 1) % ROUND_TICKS;
        self.tick
    }

    /// Gives the reader of a stream that has ended some time to hear why, if it is not closed yet.
    pub(crate) fn ended(&mut self, slot: &Arc<Slot>) {
        if self.has(slot) {
            self.schedule(slot, Instant::now() + self.end_patience, Step::Finish);
        }
    }

    /// Takes the steps whose time has come; the streams that are over by now.
    pub(crate) fn take_steps(&mut self, now: Instant) -> Vec<Arc<Slot>> {
        let mut over = Vec::new();
        while let Some(entry) = self.steps.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (slot, step) = entry.remove();
            self.next_step.remove(&slot.id);
            let next = match step {
                Step::End(reason) => {
                    slot.end(reason);
                    Step::DropQueues
                }
                Step::DropQueues => {
                    slot.drop_queues();
                    Step::Finish
                }
                Step::Finish => {
                    slot.finish();
                    over.push(slot);
                    continue;
                }
            };
            self.schedule(&slot, now + self.end_patience, next);
        }
        over
    }

    /// Spreads the ends of all streams over `time`, also of those that are still to be opened.
    pub(crate) fn drain(&mut self, time: Duration) {
        let drained_at = Instant::now() + time;
        self.drained_at = Some(drained_at);
        self.end_patience = time.mul_f64(END_PART_OF_DRAIN).min(END_PATIENCE);
        let steps = std::mem::take(&mut self.steps);
        for ((mut at, _), (slot, mut step)) in steps {
            let end = until(drained_at);
            if end < at && matches!(step, Step::End(_)) {
                (at, step) = (end, Step::End(EndReason::Draining));
            }
            self.schedule(&slot, at, step);
        }
    }

    /// Sets when the stream takes its next step, in the place of what was set before.
    fn schedule(&mut self, slot: &Arc<Slot>, at: Instant, step: Step) {
        if let Some(before) = self.next_step.insert(slot.id, at) {
            self.steps.remove(&(before, slot.id));
        }
        self.steps.insert((at, slot.id), (Arc::clone(slot), step));
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
