//! The reference model: what section "Invariants" of the design says, with nothing clever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use presence::presence::{ConnectionId, PresenceEvent, Reason, Timestamp, Transition, UserId};
use presence::store::{Closing, Left, Touched, UserState};

/// How far the clocks of test and store may disagree: both round to the millisecond.
const SLACK_MS: u64 = 3;

/// No sweep for longer than this is an outage, after which nobody expires for a while.
const OUTAGE: Duration = Duration::from_millis(1_500);

/// Moments between which something happened, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bracket {
    earliest: u64,
    latest: u64,
}

impl Bracket {
    /// Begins before the call.
    pub(super) fn open() -> Self {
        let now = Timestamp::of_system_clock().as_millis();
        Self {
            earliest: now - SLACK_MS,
            latest: u64::MAX,
        }
    }

    /// Ends after it.
    pub(super) fn close(self) -> Self {
        let now = Timestamp::of_system_clock().as_millis();
        Self {
            latest: now + SLACK_MS,
            ..self
        }
    }

    fn plus(self, duration: Duration) -> Self {
        let ms = presence::presence::millis(duration);
        Self {
            earliest: self.earliest + ms,
            latest: self.latest + ms,
        }
    }

    fn surely_before(self, other: Self) -> bool {
        self.latest < other.earliest
    }

    /// The later of two moments.
    fn or_later(self, other: Self) -> Self {
        Self {
            earliest: self.earliest.max(other.earliest),
            latest: self.latest.max(other.latest),
        }
    }

    fn contains(self, moment: Timestamp) -> bool {
        (self.earliest..=self.latest).contains(&moment.as_millis())
    }
}

#[derive(Debug, Default)]
struct User {
    announced: bool,
    /// When each connection expires.
    connections: BTreeMap<ConnectionId, Bracket>,
    /// The deadline when the user came online, or at the last sweep or
    /// departure of a connection since. A store may know no
    /// later one when it finds the user gone, since a ping writes nothing but a time to live.
    looked_at: Option<Bracket>,
    /// When the user was last alive, as far as closed connections and the last event tell.
    last_seen: Option<Bracket>,
}

impl User {
    fn surely_online(&self, at: Bracket) -> bool {
        let mut deadlines = self.connections.values();
        deadlines.any(|deadline| at.surely_before(*deadline))
    }

    fn surely_offline(&self, at: Bracket) -> bool {
        let mut deadlines = self.connections.values();
        deadlines.all(|deadline| deadline.surely_before(at))
    }

    fn check_online(&self, at: Bracket, online: bool) {
        assert!(
            online || !self.surely_online(at),
            "online: {self:?} at {at:?}"
        );
        assert!(
            !online || !self.surely_offline(at),
            "offline: {self:?} at {at:?}"
        );
    }

    /// What may be said of an announced user who is gone: never later than it was seen, and no
    /// earlier than was known when it was last looked at.
    fn seen_before_it_went(&self, ttl: Duration) -> Option<Bracket> {
        let deadline = self.deadline()?;
        let known = self
            .looked_at
            .map_or(deadline.earliest, |known| known.earliest);
        let deadline = Bracket {
            earliest: deadline.earliest.min(known),
            ..deadline
        };
        Some(self.or_closed_later(minus(deadline, ttl)))
    }

    /// A connection that was closed may have been alive later than those that are left.
    fn or_closed_later(&self, seen: Bracket) -> Bracket {
        match self.last_seen {
            Some(closed) => seen.or_later(closed),
            None => seen,
        }
    }

    /// When the last of the connections expires.
    fn deadline(&self) -> Option<Bracket> {
        let deadlines = self.connections.values();
        deadlines.copied().reduce(Bracket::or_later)
    }
}

#[derive(Debug)]
pub(super) struct Model {
    ttl: Duration,
    users: BTreeMap<UserId, User>,
    swept: Option<Bracket>,
    outage_possible: bool,
    /// Events that an answer told of and the history has not shown yet.
    told: Vec<(UserId, Told)>,
    /// Whether the step was a sweep, which may announce expiries nobody is told of.
    sweeping: Option<Bracket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Online,
    Disconnected,
}

impl Model {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            users: BTreeMap::new(),
            swept: None,
            outage_possible: false,
            told: Vec::new(),
            sweeping: None,
        }
    }

    pub(super) fn touched(
        &mut self,
        at: Bracket,
        id: &UserId,
        connection: &ConnectionId,
        touched: Touched,
    ) {
        let expires = at.plus(self.ttl);
        assert!(
            expires.contains(touched.expires_at),
            "{touched:?} not in {expires:?}"
        );
        let user = self.users.entry(id.clone()).or_default();
        assert_eq!(touched.became_online, !user.announced, "{user:?}");
        if touched.became_online {
            user.connections.clear();
            user.looked_at = Some(expires);
            self.told.push((id.clone(), Told::Online));
        }
        user.connections.insert(connection.clone(), expires);
    }

    pub(super) fn left(&mut self, at: Bracket, id: &UserId, closing: &Closing, left: Left) {
        let user = self.users.entry(id.clone()).or_default();
        let closed = match closing {
            Closing::One(connection) => user.connections.remove(connection),
            Closing::All => std::mem::take(&mut user.connections).into_values().next(),
        };
        // A connection that may or may not have expired may or may not have been closed now.
        let closed_alive = closed.filter(|deadline| !deadline.surely_before(at));
        let surely = closed_alive.is_some_and(|deadline| at.surely_before(deadline));
        if left.online && closed_alive.is_some() {
            let before = user.last_seen.map_or(0, |seen| seen.earliest);
            user.last_seen = Some(Bracket {
                earliest: if surely { at.earliest } else { before },
                latest: at.latest,
            });
        }
        user.check_online(at, left.online);
        user.looked_at = match (user.looked_at, user.deadline()) {
            (Some(known), Some(deadline)) if deadline.earliest < known.earliest => Some(deadline),
            (known, _) => known,
        };
        assert_eq!(
            left.became_offline,
            user.announced && !left.online,
            "{user:?}"
        );
        if left.became_offline {
            self.told.push((id.clone(), Told::Disconnected));
        }
    }

    pub(super) fn looked(&mut self, at: Bracket, id: &UserId, found: &UserState) {
        let user = self.users.entry(id.clone()).or_default();
        user.check_online(at, found.online);
        for (connection, expires_at) in &found.connections {
            let deadline = user.connections.get(connection);
            let deadline = deadline.expect("a connection that was opened");
            assert!(
                deadline.contains(*expires_at),
                "{connection}: {found:?} {user:?}"
            );
            assert!(
                !deadline.surely_before(at),
                "{connection} expired: {user:?}"
            );
        }
        for (connection, deadline) in &user.connections {
            let listed = found.connections.iter().any(|(id, _)| id == connection);
            assert!(
                listed || !at.surely_before(*deadline),
                "{connection} missing"
            );
        }
        let seen = match user.announced {
            true if found.online => {
                let pinged = user.deadline().map(|deadline| minus(deadline, self.ttl));
                pinged.map(|pinged| user.or_closed_later(pinged))
            }
            true => user.seen_before_it_went(self.ttl),
            false => user.last_seen,
        };
        match (seen, found.last_seen_at) {
            (Some(seen), Some(moment)) => assert!(seen.contains(moment), "{found:?} {seen:?}"),
            (None, None) => {}
            _ => panic!("last seen: {found:?} {user:?}"),
        }
    }

    pub(super) fn looked_among(&mut self, at: Bracket, ids: &[UserId], online: &[bool]) {
        for (id, online) in ids.iter().zip(online) {
            self.users
                .entry(id.clone())
                .or_default()
                .check_online(at, *online);
        }
    }

    pub(super) fn counted(&self, at: Bracket, count: u64) {
        let users = || self.users.values();
        let least = users().filter(|user| user.surely_online(at)).count() as u64;
        let most = users().filter(|user| !user.surely_offline(at)).count() as u64;
        assert!(
            (least..=most).contains(&count),
            "{count} of {least}..={most}"
        );
    }

    pub(super) fn listed(&self, listed: Vec<UserId>) {
        let once: BTreeSet<_> = listed.iter().cloned().collect();
        assert_eq!(once.len(), listed.len(), "nobody twice: {listed:?}");
        let announced = self.users.iter().filter(|(_, user)| user.announced);
        assert_eq!(once, announced.map(|(id, _)| id.clone()).collect());
    }

    pub(super) fn swept(&mut self, at: Bracket) {
        let outage = presence::presence::millis(OUTAGE);
        let before = self.swept.replace(at);
        self.outage_possible |= before.is_some_and(|before| at.latest - before.earliest > outage);
        self.sweeping = Some(at);
    }

    pub(super) fn announced(&mut self, event: &PresenceEvent) {
        let user = self.users.get_mut(&event.user).expect("a user of ours");
        match event.transition {
            Transition::Online => {
                assert_eq!(self.told.pop(), Some((event.user.clone(), Told::Online)));
                assert!(!user.announced, "events alternate");
                user.announced = true;
            }
            Transition::Offline {
                reason,
                last_seen_at,
            } => {
                let at_event = last_seen_at == event.at;
                match reason {
                    Reason::Disconnected => {
                        let told = Some((event.user.clone(), Told::Disconnected));
                        assert_eq!(self.told.pop(), told);
                        assert!(at_event, "seen when it disconnected");
                    }
                    Reason::Expired => {
                        let at = self.sweeping.expect("only a sweep announces expiries");
                        assert!(!user.surely_online(at), "{user:?} at {at:?}");
                        let seen = user.seen_before_it_went(self.ttl);
                        let seen = seen.expect("it was connected");
                        assert!(seen.contains(last_seen_at), "{event:?} {seen:?}");
                    }
                }
                assert!(user.announced, "events alternate");
                let seen = last_seen_at.as_millis();
                *user = User {
                    last_seen: Some(Bracket {
                        earliest: seen,
                        latest: seen,
                    }),
                    ..User::default()
                };
            }
        }
    }

    /// Every event an answer told of has come, and a sweep has left nobody behind.
    pub(super) fn nothing_untold(&mut self) {
        assert!(
            self.told.is_empty(),
            "told, but not announced: {:?}",
            self.told
        );
        let Some(at) = self.sweeping.take() else {
            return;
        };
        for (id, user) in &mut self.users {
            let overdue = user.announced && user.surely_offline(at);
            let waits = self.outage_possible;
            assert!(
                waits || !overdue,
                "{id} was left behind: {user:?} at {at:?}"
            );
            user.looked_at = user.deadline();
        }
    }
}

fn minus(moment: Bracket, duration: Duration) -> Bracket {
    let ms = presence::presence::millis(duration);
    Bracket {
        earliest: moment.earliest - ms,
        latest: moment.latest - ms,
    }
}
