//! The embedded store: one lock around a map of users, its deadline index and its history.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{
    Announced, Closing, History, Left, Lifetimes, OUTAGE, Page, PageCursor, SWEEP_BATCH, Signal,
    Swept, Touched, UserState,
};
use crate::presence::{
    ConnectionId, Epoch, Position, PresenceEvent, Reason, Timestamp, Transition, UserId,
};

/// A store in this process. Its clock is the wall clock at the start plus the time elapsed since,
/// so that it never steps.
#[derive(Debug)]
pub struct MemoryStore {
    lifetimes: Lifetimes,
    epoch: Epoch,
    started: (Timestamp, Instant),
    state: Mutex<State>,
    changed: watch::Sender<Position>,
}

#[derive(Debug, Default)]
struct State {
    announced: BTreeMap<UserId, Presence>,
    due: BTreeSet<(Timestamp, UserId)>,
    history: VecDeque<PresenceEvent>,
    newest: Position,
    last_seen: HashMap<UserId, Seen>,
    /// The users of `last_seen` by when that was written.
    last_seen_order: BTreeSet<(Timestamp, UserId)>,
    swept: Option<Timestamp>,
    grace_until: Timestamp,
}

/// When a user was alive, as far as closed and expired connections tell.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Timestamp,
    written: Timestamp,
}

/// An announced user. A connection whose deadline is before now has expired.
#[derive(Debug)]
struct Presence {
    connections: Vec<(ConnectionId, Timestamp)>,
    look_again: Timestamp,
}

impl Presence {
    fn deadline(&self) -> Timestamp {
        let deadlines = self.connections.iter().map(|(_, deadline)| *deadline);
        deadlines.max().unwrap_or_default()
    }

    fn is_online(&self, now: Timestamp) -> bool {
        !self.connections.is_empty() && self.deadline() >= now
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(lifetimes: Lifetimes) -> Self {
        let now = Timestamp::of_system_clock();
        Self {
            lifetimes,
            epoch: Epoch(now.as_millis() * 1_000 + fastrand::u64(..1_000)),
            started: (now, Instant::now()),
            state: Mutex::default(),
            changed: watch::Sender::new(Position::START),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.started.0.plus(self.started.1.elapsed())
    }

    pub(super) fn touch(&self, user: &UserId, connection: &ConnectionId) -> Touched {
        let mut state = self.state.lock();
        let now = self.now();
        let expires_at = now.plus(self.lifetimes.ttl);
        if let Some(presence) = state.announced.get_mut(user) {
            let connections = &mut presence.connections;
            match connections.iter_mut().find(|(id, _)| id == connection) {
                Some((_, deadline)) => *deadline = expires_at,
                None => {
                    connections.retain(|(_, deadline)| *deadline >= now);
                    connections.push((connection.clone(), expires_at));
                }
            }
            return Touched {
                became_online: false,
                expires_at,
            };
        }
        let presence = Presence {
            connections: vec![(connection.clone(), expires_at)],
            look_again: expires_at,
        };
        state.due.insert((expires_at, user.clone()));
        state.announced.insert(user.clone(), presence);
        self.announce(&mut state, user.clone(), now, Transition::Online);
        Touched {
            became_online: true,
            expires_at,
        }
    }

    pub(super) fn leave(&self, user: &UserId, closing: &Closing) -> Left {
        let mut state = self.state.lock();
        let now = self.now();
        let State { announced, due, .. } = &mut *state;
        let Some(presence) = announced.get_mut(user) else {
            return Left {
                online: false,
                became_offline: false,
            };
        };
        presence
            .connections
            .retain(|(_, deadline)| *deadline >= now);
        let before = presence.connections.len();
        presence
            .connections
            .retain(|(id, _)| matches!(closing, Closing::One(closed) if closed != id));
        let closed_one = presence.connections.len() < before;
        if !presence.connections.is_empty() {
            let deadline = presence.deadline();
            if deadline < presence.look_again {
                due.remove(&(presence.look_again, user.clone()));
                due.insert((deadline, user.clone()));
                presence.look_again = deadline;
            }
            if closed_one {
                self.remember(&mut state, user, now, now);
            }
            return Left {
                online: true,
                became_offline: false,
            };
        }
        self.depart(&mut state, user, now, Reason::Disconnected, now);
        Left {
            online: false,
            became_offline: true,
        }
    }

    fn depart(
        &self,
        state: &mut State,
        user: &UserId,
        now: Timestamp,
        reason: Reason,
        last_seen_at: Timestamp,
    ) {
        if let Some(presence) = state.announced.remove(user) {
            state.due.remove(&(presence.look_again, user.clone()));
        }
        let last_seen_at = last_seen_at.max(self.seen(state, user, now).unwrap_or_default());
        self.remember(state, user, now, last_seen_at);
        let transition = Transition::Offline {
            reason,
            last_seen_at,
        };
        self.announce(state, user.clone(), now, transition);
    }

    /// Keeps when a user was seen for as long as the settings say, counted from `written`.
    fn remember(&self, state: &mut State, user: &UserId, written: Timestamp, at: Timestamp) {
        if self.lifetimes.last_seen.is_zero() {
            return;
        }
        let before = state.last_seen.insert(user.clone(), Seen { at, written });
        if let Some(before) = before {
            state
                .last_seen_order
                .remove(&(before.written, user.clone()));
        }
        state.last_seen_order.insert((written, user.clone()));
    }

    fn seen(&self, state: &State, user: &UserId, now: Timestamp) -> Option<Timestamp> {
        let kept_since = now.minus(self.lifetimes.last_seen);
        let seen = state.last_seen.get(user)?;
        (seen.written >= kept_since).then_some(seen.at)
    }

    fn announce(&self, state: &mut State, user: UserId, at: Timestamp, transition: Transition) {
        let previous = state.newest;
        let position = previous.next(at);
        state.newest = position;
        state.history.push_back(PresenceEvent {
            position,
            previous,
            user,
            at,
            transition,
        });
        let oldest_kept = at.minus(self.lifetimes.history);
        while state
            .history
            .front()
            .is_some_and(|event| event.at < oldest_kept)
        {
            state.history.pop_front();
        }
        self.changed.send_replace(position);
    }

    pub(super) fn user(&self, user: &UserId) -> UserState {
        let state = self.state.lock();
        let now = self.now();
        let Some(presence) = state.announced.get(user) else {
            return UserState {
                last_seen_at: self.seen(&state, user, now),
                ..UserState::default()
            };
        };
        let alive = presence
            .connections
            .iter()
            .filter(|(_, deadline)| *deadline >= now);
        let mut connections: Vec<_> = alive.cloned().collect();
        connections.sort();
        let pinged = presence.deadline().minus(self.lifetimes.ttl);
        UserState {
            online: !connections.is_empty(),
            connections,
            last_seen_at: self.seen(&state, user, now).max(Some(pinged)),
        }
    }

    pub(super) fn online_among(&self, users: &[UserId]) -> Vec<bool> {
        let state = self.state.lock();
        let now = self.now();
        let online = |user| {
            state
                .announced
                .get(user)
                .is_some_and(|presence| presence.is_online(now))
        };
        users.iter().map(online).collect()
    }

    pub(super) fn count(&self) -> u64 {
        let state = self.state.lock();
        let now = self.now();
        let due = state
            .due
            .iter()
            .take_while(|(look_again, _)| *look_again < now);
        let gone = due.filter(|(_, user)| {
            state
                .announced
                .get(user)
                .is_some_and(|presence| !presence.is_online(now))
        });
        (state.announced.len() - gone.count()) as u64
    }

    pub(super) fn announced_page(&self, cursor: &PageCursor, limit: usize) -> Page {
        let state = self.state.lock();
        let from = match cursor {
            PageCursor::After(Some(user)) => Bound::Excluded(user),
            PageCursor::After(None) | PageCursor::Scan { .. } => Bound::Unbounded,
        };
        let mut rest = state.announced.range::<UserId, _>((from, Bound::Unbounded));
        let users: Vec<_> = rest
            .by_ref()
            .take(limit)
            .map(|(user, _)| user.clone())
            .collect();
        let next = rest
            .next()
            .map(|_| PageCursor::After(users.last().cloned()));
        Page { users, next }
    }

    pub(super) fn announced_among(&self, users: &[UserId]) -> Announced {
        let state = self.state.lock();
        let announced = users
            .iter()
            .filter(|user| state.announced.contains_key(*user));
        Announced {
            epoch: self.epoch,
            position: state.newest,
            users: announced.cloned().collect(),
        }
    }

    pub(super) fn history(&self, position: Position, limit: usize) -> History {
        let state = self.state.lock();
        let after = state
            .history
            .partition_point(|event| event.position <= position);
        History {
            epoch: self.epoch,
            newest: state.newest,
            events: state.history.range(after..).take(limit).cloned().collect(),
        }
    }

    pub(super) fn sweep(&self) -> Swept {
        let mut state = self.state.lock();
        let now = self.now();
        let outage = state.swept.is_some_and(|swept| now.since(swept) > OUTAGE);
        if outage {
            let interval = self.lifetimes.ping_interval;
            state.grace_until = now.plus(interval + Lifetimes::margin(interval));
        }
        state.swept = Some(now);
        self.forget_last_seen(&mut state, now);
        let mut lateness_ms = Vec::new();
        let mut more = false;
        if state.grace_until <= now {
            (lateness_ms, more) = self.sweep_due(&mut state, now);
        }
        let first_due = state.due.first().map(|(look_again, _)| *look_again);
        Swept {
            now,
            epoch: self.epoch,
            newest: state.newest,
            lateness_ms,
            announced: state.announced.len() as u64,
            more,
            next_due: first_due.map(|due| due.max(state.grace_until)),
        }
    }

    fn sweep_due(&self, state: &mut State, now: Timestamp) -> (Vec<u64>, bool) {
        let mut lateness_ms = Vec::new();
        for _ in 0..SWEEP_BATCH {
            let Some((look_again, user)) = state.due.first().cloned() else {
                return (lateness_ms, false);
            };
            if look_again >= now {
                return (lateness_ms, false);
            }
            let Some(presence) = state.announced.get_mut(&user) else {
                state.due.pop_first();
                continue;
            };
            let deadline = presence.deadline();
            if deadline < now {
                lateness_ms.push(super::millis(now.since(deadline)));
                let last_seen_at = deadline.minus(self.lifetimes.ttl);
                self.depart(state, &user, now, Reason::Expired, last_seen_at);
            } else {
                presence.look_again = deadline;
                state.due.pop_first();
                state.due.insert((deadline, user));
            }
        }
        (lateness_ms, true)
    }

    fn forget_last_seen(&self, state: &mut State, now: Timestamp) {
        let kept_since = now.minus(self.lifetimes.last_seen);
        while let Some((written, _)) = state.last_seen_order.first() {
            if *written >= kept_since {
                return;
            }
            if let Some((_, user)) = state.last_seen_order.pop_first() {
                state.last_seen.remove(&user);
            }
        }
    }

    pub(super) fn subscribe(&self) -> Subscription {
        Subscription(self.changed.subscribe())
    }
}

/// Hears of every change of a [`MemoryStore`].
#[derive(Debug)]
pub struct Subscription(watch::Receiver<Position>);

impl Subscription {
    pub(super) async fn next(&mut self) -> Option<Signal> {
        self.0.changed().await.ok()?;
        Some(Signal::Changed)
    }
}
