//! The states of users: whether they are away, and their statuses.

use std::sync::Arc;
use std::time::Duration;

use super::{MemoryStore, State};
use crate::model::{LastingStatus, State as Shown, Status, Timestamp, UserChange, UserId};
use crate::store::policy::SWEEP_BATCH;

/// How long the status of an offline user is kept if no last-seen times are kept.
const STATUS_KEPT: Duration = Duration::from_secs(86_400);

impl State {
    /// What an event shows of a user. A status that has ended is removed.
    pub(super) fn shown(&mut self, user: &UserId, now: Timestamp) -> Option<Arc<Shown>> {
        if self.statuses.current(user, now).is_none() {
            self.statuses.remove(user);
        }
        self.announced_state(user, None)
    }

    /// What is announced of a user, if something is set; with a time, without a status that has ended.
    fn announced_state(&self, user: &UserId, now: Option<Timestamp>) -> Option<Arc<Shown>> {
        let status = match now {
            Some(now) => self.statuses.current(user, now),
            None => self.statuses.get(user),
        };
        let presence = self.announced.get(user);
        let shown = Shown {
            away: presence.is_some_and(|presence| presence.away),
            status: status.map(|kept| kept.status.clone()),
        };
        (!shown.is_default()).then(|| Arc::new(shown))
    }

    /// The states of the users that are away or have a status.
    pub(super) fn states_of(&self, users: &[UserId]) -> Vec<(UserId, Arc<Shown>)> {
        let states = users
            .iter()
            .filter_map(|user| Some((user.clone(), self.announced_state(user, None)?)));
        states.collect()
    }

    /// When a sweep is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let (users, statuses) = (self.announced.next_due(), self.statuses.next_look());
        let changes = self.announced.next_change();
        let all = [users, statuses, changes, self.seats.next_due()];
        all.into_iter().flatten().min()
    }
}

impl MemoryStore {
    /// Announces whether the user is away, if that changed.
    pub(super) fn update_away(&self, state: &mut State, user: &UserId, now: Timestamp) {
        if state.announced.update_away(user, now, &state.outages) {
            self.announce_state(state, user, now);
        }
    }

    /// Announces the state of an online user.
    pub(super) fn announce_state(&self, state: &mut State, user: &UserId, now: Timestamp) {
        let shown = state.shown(user, now);
        let change = UserChange::Updated { state: shown };
        self.announce(state, user.clone(), now, change);
    }

    pub(in crate::store) fn states_among(&self, users: &[UserId]) -> Vec<Option<Arc<Shown>>> {
        let state = self.state.lock();
        let now = self.now();
        let states = users
            .iter()
            .map(|user| state.announced_state(user, Some(now)));
        states.collect()
    }

    pub(in crate::store) fn set_status(
        &self,
        user: &UserId,
        status: Option<&Status>,
        lasts: Option<Duration>,
    ) -> Option<Timestamp> {
        let mut state = self.state.lock();
        let now = self.now();
        let is_announced = state.announced.get(user).is_some();
        let before = state.statuses.get(user).map(|kept| kept.status.clone());
        let ends_at = lasts
            .filter(|_| status.is_some())
            .map(|lasts| now.plus(lasts));
        match status {
            Some(status) => {
                let forgotten_at = now.plus(self.status_kept_for());
                let status = LastingStatus {
                    status: status.clone(),
                    ends_at,
                };
                let forgotten_at = (!is_announced).then_some(forgotten_at);
                state.statuses.set(user, status, forgotten_at);
            }
            None => {
                state.statuses.remove(user);
            }
        }
        if is_announced && before.as_ref() != status {
            self.announce_state(&mut state, user, now);
        }
        ends_at
    }

    /// How long the status of an offline user is kept.
    pub(super) fn status_kept_for(&self) -> Duration {
        match self.lifetimes.last_seen {
            Duration::ZERO => STATUS_KEPT,
            last_seen => last_seen,
        }
    }

    /// Makes the changes of states that are due without a call. Returns whether more may be due.
    pub(super) fn change_states(&self, state: &mut State, now: Timestamp) -> bool {
        for _ in 0..SWEEP_BATCH {
            if let Some(user) = state.statuses.first_ended(now) {
                state.statuses.remove(&user);
                if state.announced.get(&user).is_some() {
                    self.announce_state(state, &user, now);
                }
            } else if let Some(user) = state.announced.take_changed(now) {
                self.update_away(state, &user, now);
            } else {
                return false;
            }
        }
        true
    }
}
