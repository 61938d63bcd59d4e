//! The reference model: `docs/promises.md` in a simple form.

mod bracket;
mod groups;
mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use presence::model::{Closing, Connected, Disconnected, Refusal, UserState};
use presence::model::{
    ConnectionId, GroupEvent, GroupId, Partitions, PresenceEvent, Reason, UserChange, UserId,
};

pub(super) use self::bracket::Bracket;
use self::groups::{Groups, Seated};
use self::user::{Connection, Outage, User};

/// The shortest gap between sweeps that is an outage for some grants, and the one that is an outage for all.
const SHORTEST_OUTAGE: Duration = Duration::from_millis(500);
const OUTAGE: Duration = Duration::from_millis(1_500);

/// The grant of an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) ttl: Duration,
    pub(super) ping_interval: Duration,
}

impl Grant {
    fn margin(self) -> Duration {
        (self.ping_interval / 5).clamp(Duration::from_millis(500), Duration::from_secs(5))
    }

    /// The hold of a departure after an outage.
    fn hold(self) -> Duration {
        self.ping_interval + self.margin()
    }

    /// The longest outage that causes no hold.
    fn absorbed(self) -> Duration {
        let short = self.ttl.saturating_sub(self.ping_interval) * 3 / 4;
        let in_time = self
            .ttl
            .saturating_sub(2 * self.ping_interval + self.margin());
        in_time.max(short.clamp(SHORTEST_OUTAGE, OUTAGE))
    }
}

/// A call that opens or refreshes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Connect,
    Ping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Online,
    Disconnected,
}

#[derive(Debug)]
pub(super) struct Model {
    /// The most open connections of a user.
    most: usize,
    users: BTreeMap<UserId, User>,
    /// The last sweep or, before the first one, the first use of the store.
    swept: Bracket,
    outages: Vec<Outage>,
    /// Transitions in answers whose events have not appeared in the history yet.
    told: Vec<(UserId, Told)>,
    /// The time of a sweep, if the step was one. A sweep may announce expiries that are in no answer.
    sweeping: Option<Bracket>,
    pub(super) groups: Groups,
}

/// A connect or a ping: its kind, the grant of the instance, and what the connection states.
#[derive(Clone, Copy, Debug)]
pub(super) struct TouchCall<'a> {
    pub(super) kind: Touch,
    pub(super) grant: Grant,
    pub(super) away: bool,
    pub(super) groups: &'a [GroupId],
}

impl Model {
    pub(super) fn new(most: usize, most_members: usize, first_use: Bracket) -> Self {
        Self {
            groups: Groups::new(most_members),
            most,
            users: BTreeMap::new(),
            swept: first_use,
            outages: Vec::new(),
            told: Vec::new(),
            sweeping: None,
        }
    }

    /// The store was used for the first time.
    pub(super) fn began(&mut self, at: Bracket) {
        self.swept = at;
    }

    pub(super) fn touched(
        &mut self,
        at: Bracket,
        call: TouchCall<'_>,
        id: &UserId,
        connection: &ConnectionId,
        answer: Result<Connected, Refusal>,
    ) {
        self.notice_outage(at);
        let user = self.users.entry(id.clone()).or_default();
        let closed = match call.kind {
            Touch::Connect => (false, false),
            Touch::Ping => user.is_closed(connection, at),
        };
        let full = user.is_full_beside(connection, self.most, at);
        let what = format!("{call:?} {connection} {at:?}: {answer:?}, {user:?}");
        let touched = match answer {
            Ok(touched) => touched,
            Err(Refusal::ConnectionClosed) => {
                assert!(closed.1, "the connection was not closed: {what}");
                user.surely_closed(connection, at);
                return;
            }
            Err(Refusal::TooManyConnections { most }) => {
                assert!(full.1 && most as usize == self.most, "has room: {what}");
                return;
            }
        };
        assert!(!closed.0 && !full.0, "not refused: {what}");
        let deadline = at.plus(call.grant.ttl);
        assert!(deadline.contains(touched.expires_at), "{what}");
        assert_eq!(touched.became_online, !user.announced, "{what}");
        if touched.became_online {
            user.connections.clear();
            user.known = Some(at);
            self.told.push((id.clone(), Told::Online));
        }
        let opened = Connection {
            deadline,
            grant: call.grant,
            away: call.away,
            left: None,
        };
        let crowded = user.open(connection, opened, self.most, (&self.outages, self.swept));
        let seated = Seated {
            user: id,
            id: connection,
            connection: opened,
            groups: call.groups,
            crowded,
        };
        self.groups.stated(at, &seated, &touched);
    }

    pub(super) fn left(&mut self, at: Bracket, id: &UserId, closing: &Closing, left: Disconnected) {
        self.notice_outage(at);
        let user = self.users.entry(id.clone()).or_default();
        let ends = match (closing, left.leaves_at) {
            (Closing::Later(connection, grace), Some(leaves_at)) => {
                let end = user.leave(connection, *grace, at).expect("it was opened");
                assert!(end.contains(leaves_at), "{end:?}: {left:?}");
                Some(end)
            }
            (_, None) => {
                user.close(closing, at, &self.outages, left.online);
                None
            }
            (_, Some(_)) => panic!("no grace period: {closing:?} {left:?}"),
        };
        self.groups.closed(at, id, closing, ends);
        user.check_online(at, left.online);
        let (surely, maybe) = user.may_return(at, &self.outages);
        let maybe = maybe || user.may_seem_to_return(at, &self.outages);
        let what = format!("{closing:?} {at:?}: {left:?}, {user:?} {:?}", self.outages);
        if left.became_offline {
            assert!(user.announced && !left.online && !surely, "{what}");
            self.told.push((id.clone(), Told::Disconnected));
        } else {
            assert!(!user.announced || left.online || maybe, "{what}");
        }
    }

    pub(super) fn looked(&mut self, at: Bracket, id: &UserId, found: &UserState) {
        let user = self.users.entry(id.clone()).or_default();
        user.check_online(at, found.online);
        for each in &found.connections {
            let (connection, expires_at) = (&each.id, each.expires_at);
            let known = user.connections.get(connection);
            let deadline = known.expect("a connection that was opened").deadline;
            let what = || format!("{connection}: {found:?} {user:?}");
            assert!(deadline.contains(expires_at), "{}", what());
            assert!(!deadline.surely_before(at), "expired: {}", what());
        }
        let are_away = found.connections.iter().all(|each| each.away);
        assert_eq!(found.away, found.online && are_away, "{found:?}");
        for (connection, known) in &user.connections {
            let listed = found.connections.iter().any(|each| each.id == *connection);
            let alive = at.surely_before(known.deadline);
            assert!(listed || !alive, "{connection} missing: {found:?} {user:?}");
        }
        match (user.last_seen(found.online), found.last_seen_at) {
            (Some(seen), Some(moment)) => {
                assert!(seen.contains(moment), "{found:?} {seen:?} {user:?}");
                assert!(!at.surely_before_moment(moment), "in the future: {found:?}");
            }
            (None, None) => {}
            _ => panic!("last seen: {found:?} {user:?}"),
        }
    }

    pub(super) fn looked_among(&mut self, at: Bracket, ids: &[UserId], online: &[bool]) {
        for (id, online) in ids.iter().zip(online) {
            let user = self.users.entry(id.clone()).or_default();
            user.check_online(at, *online);
        }
    }

    pub(super) fn counted(&self, at: Bracket, count: u64) {
        let users = || self.users.values();
        let least = users().filter(|user| user.surely_online(at)).count() as u64;
        let most = users().filter(|user| !user.surely_offline(at)).count() as u64;
        let range = least..=most;
        assert!(
            range.contains(&count),
            "{count} of {range:?} at {at:?}: {:?}",
            self.users
        );
    }

    pub(super) fn listed(&self, listed: Vec<UserId>) {
        let once: BTreeSet<_> = listed.iter().cloned().collect();
        assert_eq!(once.len(), listed.len(), "not distinct: {listed:?}");
        let announced = self.users.iter().filter(|(_, user)| user.announced);
        assert_eq!(once, announced.map(|(id, _)| id.clone()).collect());
    }

    pub(super) fn swept(&mut self, at: Bracket) {
        self.notice_outage(at);
        if let Some(outage) = self.outages.last_mut().filter(|outage| !outage.ended) {
            outage.to.latest = at.latest;
            outage.ended = true;
        }
        self.swept = at;
        self.sweeping = Some(at);
        self.groups.swept(at, &self.outages, is_stalled(at));
    }

    /// An event while the clock was set. It was in no answer, or the answer was not recorded.
    pub(super) fn announced_while_the_clock_was_set(&mut self, event: &PresenceEvent) {
        let user = self.users.entry(event.user.clone()).or_default();
        match &event.change {
            UserChange::Updated { .. } => assert!(user.announced, "only while announced"),
            UserChange::Online { .. } => {
                assert!(!user.announced, "events alternate: {event:?}");
                user.announced = true;
            }
            &UserChange::Offline { last_seen_at, .. } => {
                assert!(user.announced, "events alternate: {event:?}");
                assert!(last_seen_at <= event.at, "in the future: {event:?}");
                user.depart(last_seen_at);
            }
        }
    }

    /// No connection has pinged for long enough since the clock was set, until a last sweep.
    pub(super) fn all_are_gone(&mut self, at: Bracket) {
        for (id, user) in &mut self.users {
            assert!(
                !user.announced,
                "{id} is announced still: {user:?} at {at:?}"
            );
            user.clock_was_set();
        }
        self.groups.all_are_gone();
        self.outages.clear();
        self.swept = at;
    }

    /// A store notices an outage at the first call after it, or at the first sweep.
    fn notice_outage(&mut self, at: Bracket) {
        if self.outages.last().is_some_and(|outage| !outage.ended) {
            return;
        }
        let (swept, outage) = (self.swept, presence::model::millis(SHORTEST_OUTAGE));
        let possible = at.latest.saturating_sub(swept.earliest) > outage;
        let certain = at.earliest.saturating_sub(swept.latest) > outage;
        if possible {
            self.outages.push(Outage {
                from: swept,
                to: Bracket {
                    latest: u64::MAX / 2,
                    ..at
                },
                certain,
                ended: false,
            });
        }
    }

    pub(super) fn announced(&mut self, event: &PresenceEvent) {
        let user = self.users.get_mut(&event.user).expect("a user of ours");
        match &event.change {
            UserChange::Updated { state } => {
                assert!(user.announced, "only while announced: {event:?}");
                let away = state.as_ref().is_some_and(|state| state.away);
                assert_ne!(user.away, away, "no change: {event:?}");
                user.away = away;
            }
            UserChange::Online { state } => {
                assert_eq!(self.told.pop(), Some((event.user.clone(), Told::Online)));
                assert!(!user.announced, "events alternate");
                user.announced = true;
                user.away = state.as_ref().is_some_and(|state| state.away);
            }
            &UserChange::Offline {
                reason,
                last_seen_at,
            } => {
                let is_told = !self.told.is_empty();
                match reason {
                    Reason::Disconnected if is_told => {
                        let told = Some((event.user.clone(), Told::Disconnected));
                        assert_eq!(self.told.pop(), told);
                        assert_eq!(last_seen_at, event.at, "seen when it disconnected");
                    }
                    Reason::Expired | Reason::Disconnected => {
                        let left = reason == Reason::Disconnected;
                        assert!(
                            !left || user.may_have_left(),
                            "nobody left: {event:?} {user:?}"
                        );
                        let at = self.sweeping.expect("only a sweep announces expiries");
                        let (returns, _) = user.may_return(at, &self.outages);
                        let online = user.surely_online(at);
                        let what = || format!("{user:?} at {at:?} {:?}", self.outages);
                        assert!(!online && !returns, "too early: {}", what());
                        let seen = user.last_seen(false).expect("a ping");
                        assert!(seen.contains(last_seen_at), "{event:?} {seen:?} {user:?}");
                    }
                }
                assert!(user.announced, "events alternate");
                user.depart(last_seen_at);
            }
        }
    }

    /// An event of a group.
    pub(super) fn announced_member(&mut self, event: &GroupEvent, partitions: Partitions) {
        let here = partitions.of_group(&event.group);
        let users = &self.users;
        let is_online = |user: &UserId| {
            let is_online = users.get(user).is_some_and(|user| user.announced);
            (partitions.of(user) == here).then_some(is_online)
        };
        self.groups.announced(event, is_online);
    }

    /// Every transition in an answer has its event, and a sweep has announced all expired users.
    pub(super) fn nothing_untold(&mut self) {
        let told = &self.told;
        assert!(told.is_empty(), "in an answer, but not announced: {told:?}");
        self.groups.nothing_untold();
        let Some(at) = self.sweeping.take() else {
            return;
        };
        let is_stalled = is_stalled(at);
        for (id, user) in &mut self.users {
            let (_, returns) = user.may_return(at, &self.outages);
            let returns = returns || user.may_seem_to_return(at, &self.outages) || is_stalled;
            let overdue = user.announced && user.surely_offline(at) && !returns;
            let outages = &self.outages;
            assert!(
                !overdue,
                "{id} was left behind: {user:?} at {at:?} {outages:?}"
            );
            if user.announced && user.surely_online(at) {
                let (surely, maybe) = user.is_active(at, outages);
                assert!(!surely || !user.away, "{id} is active: {user:?} at {at:?}");
                let is_away = maybe || is_stalled || user.away;
                assert!(is_away, "{id} is away: {user:?} at {at:?} {outages:?}");
            }
            // The sweep learns nothing new about a user whose departure is held.
            if user.surely_online(at) {
                user.known = user.pinged();
            }
        }
    }
}

/// Whether a sweep may have noticed an outage between two of its steps.
fn is_stalled(swept: Bracket) -> bool {
    swept.lasts(SHORTEST_OUTAGE)
}
