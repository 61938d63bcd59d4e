//! The embedded store: one lock around the announced users, the history and the last-seen times.

mod announced;
mod clock;
mod closed;
mod connection;
mod deliveries;
mod delivery_calls;
mod group_calls;
mod groups;
mod history;
mod instances;
mod last_seen;
mod outages;
mod pinging;
mod reads;
mod seats;
mod states;
mod statuses;
mod subscription;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use self::announced::AnnouncedUsers;
use self::clock::Clock;
use self::closed::ClosedConnections;
use self::connection::Connection;
use self::deliveries::Deliveries;
use self::groups::Groups;
use self::history::Events;
use self::last_seen::LastSeen;
use self::outages::Outages;
use self::seats::{Seat, Seats};
use self::statuses::Statuses;
pub(super) use self::subscription::Subscription;
use super::lifetimes::{Grant, Lifetimes};
use super::node_id::NodeId;
use super::policy::SWEEP_BATCH;
use super::swept::Swept;
use crate::model::{
    Closing, Connected, ConnectionId, Disconnected, Entry, Epoch, InstanceReport, Partition,
    Position, PresenceEvent, Reason, Refusal, Stated, Timestamp, UserChange, UserId, millis,
};

/// A store in the memory of this process.
#[derive(Debug)]
pub struct MemoryStore {
    lifetimes: Lifetimes,
    epoch: Epoch,
    clock: Clock,
    state: Mutex<State>,
    deliveries: Mutex<Deliveries>,
    /// The last report of this instance.
    instance: Mutex<Option<InstanceReport>>,
    changed: watch::Sender<Position>,
    nodes: watch::Sender<Arc<[NodeId]>>,
}

#[derive(Debug)]
struct State {
    announced: AnnouncedUsers,
    outages: Outages,
    closed: ClosedConnections,
    groups: Groups,
    seats: Seats,
    events: Events,
    newest: Position,
    last_seen: LastSeen,
    statuses: Statuses,
}

impl State {
    /// The state of an empty store that is used since `now`.
    fn new(now: Timestamp) -> Self {
        Self {
            announced: AnnouncedUsers::default(),
            outages: Outages::since(now),
            closed: ClosedConnections::default(),
            groups: Groups::default(),
            seats: Seats::default(),
            events: Events::default(),
            newest: Position::default(),
            last_seen: LastSeen::default(),
            statuses: Statuses::default(),
        }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(lifetimes: Lifetimes) -> Self {
        let clock = Clock::start();
        let now = clock.now();
        Self {
            lifetimes,
            epoch: Epoch(now.as_millis() * 1_000 + fastrand::u64(..1_000)),
            clock,
            state: Mutex::new(State::new(now)),
            deliveries: Mutex::default(),
            instance: Mutex::default(),
            changed: watch::Sender::new(Position::START),
            nodes: watch::Sender::new([NodeId::ONLY].into()),
        }
    }

    pub(super) fn nodes(&self) -> watch::Receiver<Arc<[NodeId]>> {
        self.nodes.subscribe()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<Connected, Refusal> {
        self.connect_with(self.lifetimes.grant(stated), user, connection, stated)
    }

    fn connect_with(
        &self,
        grant: Grant,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<Connected, Refusal> {
        let mut state = self.state.lock();
        let now = self.now();
        let opened = Connection::new(connection.clone(), now, grant, stated);
        let connected = self.connect_or_ping(&mut state, user, opened, now)?;
        state.closed.open(user, connection);
        Ok(connected)
    }

    pub(super) fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<Connected, Refusal> {
        let mut state = self.state.lock();
        let now = self.now();
        let presence = state.announced.get(user);
        let is_known = presence.is_some_and(|presence| presence.connections.keeps(connection));
        // A known connection is not closed, and nearly every ping is of a known one.
        if !is_known && state.closed.contains(user, connection, now) {
            return Err(Refusal::ConnectionClosed);
        }
        let grant = self.lifetimes.grant(stated);
        let refreshed = Connection::new(connection.clone(), now, grant, stated);
        self.connect_or_ping(&mut state, user, refreshed, now)
    }

    fn connect_or_ping(
        &self,
        state: &mut State,
        user: &UserId,
        refreshed: Connection,
        now: Timestamp,
    ) -> Result<Connected, Refusal> {
        state.outages.notice(now);
        let expires_at = refreshed.deadline;
        let (seat, groups) = (Seat::of(&refreshed), refreshed.groups.clone());
        let mut left = state.stated_groups(user, |id| *id == refreshed.id);
        let became_online = match state.announced.get_mut(user) {
            Some(presence) => {
                let most = self.lifetimes.user_connections;
                let evicted = presence
                    .connections
                    .refresh(refreshed, most, now, &state.outages)?;
                // The seats of a held connection are held like the connection.
                let evicted = evicted.filter(|evicted| evicted.is_alive(now));
                left.extend(evicted.map(|evicted| (evicted.id, evicted.groups)));
                if !state.announced.is_settled(user) {
                    state.announced.settle(user, now, &state.outages);
                }
                self.update_away(state, user, now);
                false
            }
            None => {
                state.announced.enter(user, refreshed);
                // While the user is announced, its connections have the last-seen time.
                state.last_seen.remove(user);
                state.statuses.keep_until(user, None);
                let shown = state.shown(user, now);
                self.announce(
                    state,
                    user.clone(),
                    now,
                    UserChange::Online { state: shown },
                );
                true
            }
        };
        let connection = seat.as_ref().map(|seat| seat.connection.clone());
        // The user joins first: it may leave a group by one connection that it states by the other.
        let not_joined = self.join_groups(state, user, (seat, &groups), now);
        self.leave_groups(state, user, &left, (connection.as_ref(), &groups), now);
        Ok(Connected {
            became_online,
            expires_at,
            not_joined,
        })
    }

    pub(super) fn disconnect(&self, user: &UserId, closing: &Closing) -> Disconnected {
        let mut state = self.state.lock();
        let now = self.now();
        state.outages.notice(now);
        let left = state.stated_groups(user, |id| match closing {
            Closing::One(closed) | Closing::Later(closed, _) => id == closed,
            Closing::All => true,
        });
        let State {
            announced,
            outages,
            closed,
            ..
        } = &mut *state;
        let presence = announced.get_mut(user);
        let mut connections = presence.map(|presence| &mut presence.connections);
        if let Closing::Later(connection, grace) = closing
            && let Some(connections) = &mut connections
            && let Some(ends) = connections.leave(connection, *grace, now)
        {
            closed.close(user, closing, ends);
            if !announced.is_settled(user) {
                announced.settle(user, now, outages);
            }
            self.update_away(&mut state, user, now);
            state.leave_groups_later(user, &left, ends);
            return Disconnected {
                online: true,
                became_offline: false,
                leaves_at: Some(ends),
            };
        }
        let (was_open, is_last) = match connections {
            Some(connections) => {
                let was_open = connections.close(closing, now, outages);
                (was_open, !connections.may_return(now, outages))
            }
            None => (false, false),
        };
        if was_open || *closing == Closing::All {
            closed.close(user, closing, now);
        }
        if is_last {
            self.depart(&mut state, user, now, (Reason::Disconnected, now));
        } else if !announced.is_settled(user) || !announced.is_online(user, now) {
            announced.settle(user, now, outages);
        }
        if was_open && !is_last {
            self.update_away(&mut state, user, now);
        }
        self.leave_groups(&mut state, user, &left, (None, &[]), now);
        Disconnected {
            online: state.announced.is_online(user, now),
            became_offline: is_last,
            leaves_at: None,
        }
    }

    fn depart(
        &self,
        state: &mut State,
        user: &UserId,
        now: Timestamp,
        (reason, last_seen_at): (Reason, Timestamp),
    ) {
        let Some((user, _)) = state.announced.remove(user) else {
            return;
        };
        if !self.lifetimes.last_seen.is_zero() {
            state.last_seen.keep(user.clone(), last_seen_at, now);
        }
        let forgotten_at = now.plus(self.status_kept_for());
        state.statuses.keep_until(&user, Some(forgotten_at));
        let change = UserChange::Offline {
            reason,
            last_seen_at,
        };
        self.announce(state, user, now, change);
    }

    fn announce(&self, state: &mut State, user: UserId, at: Timestamp, change: UserChange) {
        self.append(state, at, |position, previous| {
            Entry::Event(PresenceEvent {
                position,
                previous,
                user,
                at,
                change,
            })
        });
    }

    /// Appends the entry that `entry` makes of its position and the position before it.
    fn append(
        &self,
        state: &mut State,
        at: Timestamp,
        entry: impl FnOnce(Position, Position) -> Entry,
    ) {
        let previous = state.newest;
        let position = previous.next(at);
        state.newest = position;
        let entry = entry(position, previous);
        state.events.push(entry, self.lifetimes.history_bytes);
        state.events.trim(at.minus(self.lifetimes.history));
        self.changed.send_replace(position);
    }

    pub(super) fn sweep(&self) -> Swept {
        let mut state = self.state.lock();
        let now = self.now();
        let former = state.outages.swept(now);
        state.closed.trim(now);
        state.last_seen.trim(now.minus(self.lifetimes.last_seen));
        state.events.trim(now.minus(self.lifetimes.history));
        let (departed, more) = self.sweep_due(&mut state, now);
        let more = self.change_states(&mut state, now) || more;
        let more = self.end_seats(&mut state, now) || more;
        Swept {
            partition: Partition::FIRST,
            former: Some(former),
            now,
            epoch: self.epoch,
            newest: state.newest,
            lateness_ms: departed.iter().map(|(_, lateness)| *lateness).collect(),
            overdue: departed.len() as u64,
            left: departed.partition_point(|(has_stayed, _)| !has_stayed),
            announced: state.announced.len() as u64,
            is_delicate: false,
            more,
            next_due: state.next_due(),
            unfinished: None,
        }
    }

    pub(super) fn held_until(&self) -> Option<Timestamp> {
        self.state.lock().announced.held_until()
    }

    /// Announces the departures of due users, and settles the others. Returns of each departure whether the connection
    /// expired, and the lateness in milliseconds, sorted; and whether more users may be due.
    fn sweep_due(&self, state: &mut State, now: Timestamp) -> (Vec<(bool, u64)>, bool) {
        let mut departed = Vec::new();
        let mut more = true;
        for _ in 0..SWEEP_BATCH {
            let Some(user) = state.announced.first_due(now) else {
                more = false;
                break;
            };
            if !state.announced.is_gone(&user, now, &state.outages) {
                state.announced.settle(&user, now, &state.outages);
                continue;
            }
            let Some(presence) = state.announced.get(&user) else {
                continue;
            };
            let connections = &presence.connections;
            let (has_left, seen) = (connections.has_left(), connections.last_seen());
            departed.push((!has_left, millis(now.since(connections.deadline()))));
            let reason = if has_left {
                Reason::Disconnected
            } else {
                Reason::Expired
            };
            self.depart(state, &user, now, (reason, seen));
        }
        departed.sort_unstable();
        (departed, more)
    }

    pub(super) fn subscribe(&self) -> Subscription {
        Subscription::of(&self.changed)
    }
}
