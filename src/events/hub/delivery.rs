//! Delivers new events to the interested streams.

use std::sync::Arc;

use parking_lot::MutexGuard;

use crate::events::hub::copies::Copies;
use crate::events::hub::index::{DeliveryPoint, Index};
use crate::events::hub::kept::Kept;
use crate::events::hub::known::KnownUsers;
use crate::events::hub::ring::Ring;
use crate::events::hub::{Hub, State};
use crate::events::interest::AudienceId;
use crate::events::sse::frame::{self, Frame};
use crate::events::subscriber::Pushed;
use crate::model::{Entry, Epoch, GroupEvent, JoinedUser, MemberChange, Partition};

/// Subscribers that receive an event before the lock is released for other threads.
const DELIVERY_PART: usize = 1_024;

/// An event is missing between the newest known event and the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap;

impl Hub {
    /// Delivers entries of one partition in order and skips known entries. `known` has the states of users of other
    /// partitions that join groups. Fails if an entry is missing, or if an
    /// old entry is unknown: then the history is another one.
    pub(crate) async fn publish(
        &self,
        partition: Partition,
        epoch: Epoch,
        entries: &[Entry],
        known: &KnownUsers,
    ) -> Result<(), Gap> {
        // All streams receive the events of all partitions in one order.
        let _turn = self.publishing.lock().await;
        for entry in entries {
            self.publish_entry(partition, epoch, entry, known)?;
        }
        self.received.notify_waiters();
        Ok(())
    }

    fn publish_entry(
        &self,
        partition: Partition,
        epoch: Epoch,
        entry: &Entry,
        known: &KnownUsers,
    ) -> Result<(), Gap> {
        // The lock is taken for each entry, because threads that serve calls also open and
        // close streams.
        let mut state = self.state.lock();
        let State {
            ring,
            index,
            copies,
            ids,
            ..
        } = &mut *state;
        let (known_epoch, newest) = ring.newest(partition).ok_or(Gap)?;
        if known_epoch != epoch {
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
        let completed = completed(entry, ring, known);
        let entry = completed.as_ref().unwrap_or(entry);
        if let Entry::Group(event) = entry {
            copies.apply(event);
        }
        let audiences = audiences_of(entry, index, copies);
        let frame = (!audiences.is_empty()).then(|| frame::event(ids.id(epoch, position), entry));
        // A stream that joins later has the true position of a partition that is held now.
        let is_exact = ids.held().is_empty();
        let number = ring.push(
            Kept::of(partition, entry),
            frame.clone().filter(|_| is_exact),
        );
        if let Some(reason) = ring.flap(number) {
            self.metrics.flapped(reason);
        }
        let generation = ring.generation_of(partition);
        if let Entry::Group(event) = entry {
            // These streams receive the event after they have the members of their groups.
            let regroups = state.pause_regrouped(event, number);
            self.request_regroup(regroups);
        }
        if let Some(frame) = frame {
            self.deliver(state, (generation, number), &audiences, &frame);
        }
        Ok(())
    }

    /// Delivers one event, with the generation of its partition and its number. A stream that joins while the lock is
    /// released has the event from the ring.
    fn deliver(
        &self,
        mut state: MutexGuard<'_, State>,
        (generation, number): (u64, u64),
        audiences: &[AudienceId],
        frame: &Frame,
    ) {
        let mut next = Some(DeliveryPoint::default());
        state.is_delivering = true;
        while let Some(from) = next {
            let State {
                index, lifetimes, ..
            } = &mut *state;
            let (mut queued, mut too_slow) = (0, 0);
            next = index.for_each_in(
                audiences,
                from,
                DELIVERY_PART,
                |subscriber| match subscriber.push(generation, number, frame) {
                    Pushed::Queued => queued += 1,
                    Pushed::TooSlow => {
                        too_slow += 1;
                        lifetimes.close_later(subscriber);
                    }
                    Pushed::Ignored => {}
                },
            );
            self.metrics.events_delivered.inc_by(queued);
            self.metrics.streams_cut_off.inc_by(too_slow);
            if next.is_some() {
                MutexGuard::bump(&mut state);
            }
        }
        state.is_delivering = false;
    }
}

/// The audiences that carry an entry, in order and without duplicates. Only audiences with subscribers count.
fn audiences_of(entry: &Entry, index: &Index, copies: &Copies) -> Vec<AudienceId> {
    let mut audiences: Vec<AudienceId> = match entry {
        Entry::Event(event) => {
            let listed = index.interested_in(&event.user).into_iter();
            listed
                .chain(copies.watchers_of_member(&event.user))
                .collect()
        }
        Entry::Group(event) => copies.watchers(&event.group).collect(),
        Entry::Unknown { .. } => Vec::new(),
    };
    audiences.sort_unstable();
    audiences.dedup();
    audiences.retain(|audience| index.has_subscribers(*audience));
    audiences
}

/// The entry with the states of the known users as of the end of the ring, if users joined a group with it.
fn completed(entry: &Entry, ring: &Ring, known: &KnownUsers) -> Option<Entry> {
    let Entry::Group(event) = entry else {
        return None;
    };
    let MemberChange::Joined(joined) = &event.change else {
        return None;
    };
    if known.is_empty() {
        return None;
    }
    let joined = joined.iter().map(|joined| {
        let known = known.get(&joined.user);
        let is_announced = known.map(|known| ring.state_of(&joined.user, known).is_some());
        JoinedUser {
            user: joined.user.clone(),
            is_announced: is_announced.unwrap_or(joined.is_announced),
        }
    });
    let change = MemberChange::Joined(joined.collect());
    let event = GroupEvent {
        change,
        ..GroupEvent::clone(event)
    };
    Some(Entry::Group(Arc::new(event)))
}
