//! Which connections were closed a moment ago, so that a ping from before that is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::Closing;
use crate::model::{ConnectionId, Timestamp, UserId};

/// How long the pings of a closed connection are refused.
const REFUSED: Duration = Duration::from_secs(10);

/// The most marks that are kept, in some 32 MiB; the oldest are dropped first.
const MOST_MARKS: usize = 250_000;

/// A connection of a user, or all of them.
type Which = (UserId, Option<ConnectionId>);

/// What was closed in the last 10 s.
#[derive(Debug, Default)]
pub(super) struct ClosedConnections {
    /// Until when the pings of each are refused; zero for a connection that connected after all
    /// had been closed.
    marks: BTreeMap<Which, Timestamp>,
    /// When something was closed, and by whom.
    order: BTreeSet<(Timestamp, UserId)>,
}

impl ClosedConnections {
    pub(super) fn close(&mut self, user: &UserId, closing: &Closing, now: Timestamp) {
        let connection = match closing {
            Closing::One(connection) => Some(connection.clone()),
            Closing::All => {
                self.forget(user, |_, _| true);
                None
            }
        };
        self.order.insert((now, user.clone()));
        let which = (user.clone(), connection);
        self.marks.insert(which, now.plus(REFUSED));
        while self.marks.len() > MOST_MARKS {
            self.forget_oldest();
        }
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
        let until = |connection| self.marks.get(&(user.clone(), connection));
        let until = until(Some(connection.clone())).or_else(|| until(None));
        until.is_some_and(|until| *until > now)
    }

    /// Takes the pings of a connection again, because it connected.
    pub(super) fn open(&mut self, user: &UserId, connection: &ConnectionId) {
        if self.marks.is_empty() {
            return;
        }
        let one = (user.clone(), Some(connection.clone()));
        match self.marks.contains_key(&(user.clone(), None)) {
            true => self.marks.insert(one, Timestamp::default()),
            false => self.marks.remove(&one),
        };
    }

    /// Forgets what ended.
    pub(super) fn trim(&mut self, now: Timestamp) {
        let ended = now.minus(REFUSED);
        while self
            .order
            .first()
            .is_some_and(|(closed, _)| *closed <= ended)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((closed, user)) = self.order.pop_first() else {
            return;
        };
        let ended = closed.plus(REFUSED);
        let all = self.marks.get(&(user.clone(), None));
        let all_ended = all.is_none_or(|until| *until <= ended);
        self.forget(&user, |which, until| match which {
            Some(_) if until == Timestamp::default() => all_ended,
            _ => until <= ended,
        });
    }

    fn forget(
        &mut self,
        user: &UserId,
        is_over: impl Fn(&Option<ConnectionId>, Timestamp) -> bool,
    ) {
        let of_user = self.marks.range((user.clone(), None)..);
        let of_user = of_user.take_while(|((owner, _), _)| owner == user);
        let over = of_user.filter(|((_, connection), until)| is_over(connection, **until));
        let over: Vec<Which> = over.map(|(which, _)| which.clone()).collect();
        for which in over {
            self.marks.remove(&which);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.order.is_empty()
    }
}
