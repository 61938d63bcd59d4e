//! Streams of own groups: the groups change while the streams are open.

use std::sync::Arc;

use parking_lot::MutexGuard;

use crate::events::hub::regroup::Regroup;
use crate::events::hub::{Hub, State, remove_audience};
use crate::events::interest::{GroupInterest, Interest};
use crate::events::subscriber::Subscriber;
use crate::model::{GroupEvent, GroupId, UserId};

/// The own groups of a user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OwnGroups {
    pub(crate) all: Vec<GroupId>,
    /// The groups that the user joined last.
    pub(crate) joined: Vec<GroupId>,
}

impl State {
    /// Ends the live delivery of the streams whose own groups change with the event with this number.
    pub(super) fn pause_regrouped(&self, event: &GroupEvent, number: u64) -> Vec<Regroup> {
        let generation = self.ring.generation();
        let audiences = self.index.with_own_change(event).into_iter();
        let subscribers = audiences.flat_map(|audience| self.index.subscribers(audience));
        let paused = subscribers.filter(|subscriber| subscriber.pause_before(number));
        let paused = paused.map(|subscriber| Regroup {
            subscriber: Arc::clone(subscriber),
            generation,
            number,
        });
        paused.collect()
    }
}

impl Hub {
    pub(super) fn request_regroup(&self, regroups: Vec<Regroup>) {
        if !regroups.is_empty() {
            self.to_regroup.lock().extend(regroups);
            self.regroup.notify_one();
        }
    }

    /// Waits for streams whose own groups changed.
    pub(crate) async fn regroup_requested(&self) -> Vec<Regroup> {
        self.regroup.notified().await;
        std::mem::take(&mut self.to_regroup.lock())
    }

    /// The own groups of a user as of the entry `until`, if they were those of `interest` before the entry `from`.
    pub(crate) fn own_groups(
        &self,
        interest: &GroupInterest,
        user: &UserId,
        (from, until): (u64, u64),
    ) -> OwnGroups {
        let state = self.state.lock();
        let mut own = OwnGroups {
            all: interest.groups.to_vec(),
            joined: Vec::new(),
        };
        let events = state.ring.group_events(from);
        for (_, event) in events.take_while(|(number, _)| *number < until) {
            if !event.names(user) {
                continue;
            }
            if !event.has_joined() {
                own.all.retain(|group| *group != event.group);
                own.joined.retain(|group| *group != event.group);
            } else if !own.all.contains(&event.group) {
                // The groups may have been read after the event, before this instance received it.
                own.all.push(event.group.clone());
                own.joined.push(event.group.clone());
            }
        }
        own
    }

    /// Whether an entry changed the own groups of a stream after they were read, or may have and is no longer kept.
    pub(crate) fn have_own_groups_changed(&self, subscriber: &Subscriber) -> bool {
        let interest = subscriber.interest();
        if interest.own().is_none() {
            return false;
        }
        let (state, since) = (self.state.lock(), subscriber.since());
        state.ring.first() > since || state.has_own_change(&interest, since)
    }

    /// Changes the interest of a stream that is not live. The copies of its groups are held.
    /// The groups are those as of the entry `since`.
    pub(crate) fn follow(&self, subscriber: &Arc<Subscriber>, interest: &Interest, since: u64) {
        let mut state = self.state.lock();
        if !state.lifetimes.has(subscriber) {
            return;
        }
        // The stream is open already, so the limit does not apply.
        let Some(audience) = state.audience(interest, usize::MAX) else {
            return;
        };
        if audience == subscriber.audience() {
            subscriber.follow(audience, interest.clone(), since);
            return;
        }
        let interest = state.index.interest(audience);
        state.index.add(audience, subscriber);
        let before = subscriber.follow(audience, interest, since);
        let removed = state.index.remove(before, subscriber);
        while state.index.insert_some(audience) {
            MutexGuard::bump(&mut state);
        }
        if let Some(removed) = removed {
            remove_audience(state, removed);
        }
    }
}

impl State {
    /// Whether an entry from this number on changes the own groups of the interest.
    pub(super) fn has_own_change(&self, interest: &Interest, from: u64) -> bool {
        let Interest::Groups(interest) = interest else {
            return false;
        };
        let mut events = self.ring.group_events(from);
        interest.own.is_some() && events.any(|(_, event)| interest.is_own_change(event))
    }
}
