//! Which connections were closed a moment ago, so that a ping from before that is refused.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::presence::{ConnectionId, Timestamp, UserId};
use crate::store::Closing;

/// How long the pings of a closed connection are refused.
const REFUSED: Duration = Duration::from_secs(10);

/// A connection of a user, or all of them.
type Which = (UserId, Option<ConnectionId>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Closed,
    /// It connected after all connections of the user had been closed.
    OpenedSince,
}

/// What was closed in the last 10 s.
#[derive(Debug, Default)]
pub(super) struct ClosedConnections {
    /// Each with when it ends.
    marks: BTreeMap<Which, (Mark, Timestamp)>,
    /// When marks end, perhaps for the sake of others that took their places.
    ends: VecDeque<(Timestamp, Which)>,
}

impl ClosedConnections {
    pub(super) fn close(&mut self, user: &UserId, closing: &Closing, now: Timestamp) {
        let connection = match closing {
            Closing::One(connection) => Some(connection.clone()),
            Closing::All => {
                self.forget_those_of(user);
                None
            }
        };
        let until = now.plus(REFUSED);
        self.mark((user.clone(), connection), Mark::Closed, until);
    }

    /// Whether pings of the connection are refused.
    pub(super) fn contains(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        now: Timestamp,
    ) -> bool {
        if self.marks.is_empty() {
            return false;
        }
        let one = self.find(&(user.clone(), Some(connection.clone())), now);
        let mark = one.or_else(|| self.find(&(user.clone(), None), now));
        mark == Some(Mark::Closed)
    }

    /// Takes the pings of a connection again, because it connected.
    pub(super) fn open(&mut self, user: &UserId, connection: &ConnectionId, now: Timestamp) {
        if self.marks.is_empty() {
            return;
        }
        let one = (user.clone(), Some(connection.clone()));
        let all = self.marks.get(&(user.clone(), None));
        match all.filter(|(_, until)| *until > now) {
            Some((_, until)) => self.mark(one, Mark::OpenedSince, *until),
            None => drop(self.marks.remove(&one)),
        }
    }

    /// Forgets what ended.
    pub(super) fn trim(&mut self, now: Timestamp) {
        while self.ends.front().is_some_and(|(until, _)| *until <= now) {
            let Some((until, which)) = self.ends.pop_front() else {
                return;
            };
            if self.marks.get(&which).is_some_and(|(_, end)| *end == until) {
                self.marks.remove(&which);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.ends.is_empty()
    }

    fn find(&self, which: &Which, now: Timestamp) -> Option<Mark> {
        let (mark, until) = self.marks.get(which)?;
        (*until > now).then_some(*mark)
    }

    fn mark(&mut self, which: Which, mark: Mark, until: Timestamp) {
        self.marks.insert(which.clone(), (mark, until));
        self.ends.push_back((until, which));
    }

    fn forget_those_of(&mut self, user: &UserId) {
        let from = (user.clone(), None);
        let of_user = self.marks.range(from..).map(|(which, _)| which);
        let of_user = of_user.take_while(|(owner, _)| owner == user).cloned();
        for which in of_user.collect::<Vec<_>>() {
            self.marks.remove(&which);
        }
    }
}
