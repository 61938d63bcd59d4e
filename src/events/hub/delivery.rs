//! Delivers new events to the interested streams.

use std::time::Duration;

use parking_lot::MutexGuard;

use crate::events::hub::index::DeliveryPoint;
use crate::events::hub::kept::Kept;
use crate::events::hub::ring::Ring;
use crate::events::hub::{Hub, State};
use crate::events::sse::frame::{self, Frame};
use crate::events::subscriber::Pushed;
use crate::model::{Entry, Epoch, Partition, Reason, Transition, UserId};

/// Subscribers that receive an event before the lock is released for other threads.
const DELIVERY_PART: usize = 1_024;

/// The longest time from a departure of a user to its return that counts as a flap.
const FLAP: Duration = Duration::from_secs(60);

/// An event is missing between the newest known event and the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap;

impl Hub {
    /// Delivers entries of one partition in order and skips known entries. Fails if an entry is missing, or if an
    /// old entry is unknown: then the history is another one.
    pub(crate) async fn publish(
        &self,
        partition: Partition,
        epoch: Epoch,
        entries: &[Entry],
    ) -> Result<(), Gap> {
        // All streams receive the events of all partitions in one order.
        let _turn = self.publishing.lock().await;
        for entry in entries {
            self.publish_entry(partition, epoch, entry)?;
        }
        self.received.notify_waiters();
        Ok(())
    }

    fn publish_entry(&self, partition: Partition, epoch: Epoch, entry: &Entry) -> Result<(), Gap> {
        // The lock is taken for each entry, because threads that serve calls also open and
        // close streams.
        let mut state = self.state.lock();
        let State {
            ring, index, ids, ..
        } = &mut *state;
        let (known, newest) = ring.newest(partition).ok_or(Gap)?;
        if known != epoch {
            return Err(Gap);
        }
        if ring.has(partition, entry) {
            return Ok(());
        }
        let position = entry.position();
        if position <= newest || entry.previous() != newest {
            return Err(Gap);
        }
        ids.advance(partition, position);
        let watched = entry.event().filter(|event| index.is_watched(&event.user));
        let frame = watched.map(|event| frame::event(ids.id(epoch, position), event));
        // A stream that joins later has the true position of a partition that is held now.
        let is_exact = ids.held().is_empty();
        let number = ring.push(
            Kept::of(partition, entry),
            frame.clone().filter(|_| is_exact),
        );
        if let Some(reason) = flap(ring, number, entry) {
            self.metrics.flapped(reason);
        }
        if let (Some(event), Some(frame)) = (watched, frame) {
            let generation = ring.generation_of(partition);
            self.deliver(state, (generation, number), &event.user, &frame);
        }
        Ok(())
    }

    /// Delivers one event, with the generation of its partition and its number. A stream that joins while the lock is
    /// released has the event from the ring.
    fn deliver(
        &self,
        mut state: MutexGuard<'_, State>,
        (generation, number): (u64, u64),
        user: &UserId,
        frame: &Frame,
    ) {
        let mut next = Some(DeliveryPoint::default());
        state.is_delivering = true;
        while let Some(from) = next {
            let State {
                index, lifetimes, ..
            } = &mut *state;
            let (mut queued, mut too_slow) = (0, 0);
            next =
                index.for_each_interested(user, from, DELIVERY_PART, |subscriber| match subscriber
                    .push(generation, number, frame)
                {
                    Pushed::Queued => queued += 1,
                    Pushed::TooSlow => {
                        too_slow += 1;
                        lifetimes.close_later(subscriber);
                    }
                    Pushed::Ignored => {}
                });
            self.metrics.events_delivered.inc_by(queued);
            self.metrics.streams_cut_off.inc_by(too_slow);
            if next.is_some() {
                MutexGuard::bump(&mut state);
            }
        }
        state.is_delivering = false;
    }
}

/// The reason of the departure before a flap: the entry with this number brings a user online soon after its departure.
fn flap(ring: &Ring, number: u64, entry: &Entry) -> Option<Reason> {
    let event = entry.event()?;
    if !matches!(event.transition, Transition::Online { .. }) {
        return None;
    }
    let (reason, at) = ring.departure_before(number)?;
    (entry.at().since(at) <= FLAP).then_some(reason)
}
