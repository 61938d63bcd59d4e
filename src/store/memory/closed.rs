//! The connections that were closed a moment ago, so that pings from before the disconnect are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::Closing;
use crate::model::{ConnectionId, Timestamp, UserId};

/// How long the pings of a closed connection are refused.
const REFUSED: Duration = Duration::from_secs(10);

/// The maximum number of marks, which take about 32 MiB. The oldest are dropped first.
const MAX_MARKS: usize = 250_000;

/// One connection of a user; `None` means all of them.
type Closed = (UserId, Option<ConnectionId>);

/// The connections that were closed in the last 10 s.
#[derive(Debug, Default)]
pub(super) struct ClosedConnections {
    /// Until when pings are refused. Zero marks a connection that connected after all had been closed.
    marks: BTreeMap<Closed, Timestamp>,
    /// When each connection ended, and its user.
    order: BTreeSet<(Timestamp, UserId)>,
}

impl ClosedConnections {
    /// Refuses pings from now on until 10 s after the connection `ends`.
    pub(super) fn close(&mut self, user: &UserId, closing: &Closing, ends: Timestamp) {
        let connection = match closing {
            Closing::One(connection) | Closing::Later(connection, _) => Some(connection.clone()),
            Closing::All => {
                self.remove(user, |_, _| true);
                None
            }
        };
        self.order.insert((ends, user.clone()));
        let which = (user.clone(), connection);
        self.marks.insert(which, ends.plus(REFUSED));
        while self.marks.len() > MAX_MARKS {
            self.remove_oldest();
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

    /// Accepts pings of the connection again, after a connect.
    pub(super) fn open(&mut self, user: &UserId, connection: &ConnectionId) {
        if self.marks.is_empty() {
            return;
        }
        let one = (user.clone(), Some(connection.clone()));
        if self.marks.contains_key(&(user.clone(), None)) {
            self.marks.insert(one, Timestamp::default());
        } else {
            self.marks.remove(&one);
        }
    }

    /// Removes marks that have ended.
    pub(super) fn trim(&mut self, now: Timestamp) {
        let ended = now.minus(REFUSED);
        while self
            .order
            .first()
            .is_some_and(|(closed, _)| *closed <= ended)
        {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        let Some((closed, user)) = self.order.pop_first() else {
            return;
        };
        let ended = closed.plus(REFUSED);
        let all = self.marks.get(&(user.clone(), None));
        let all_ended = all.is_none_or(|until| *until <= ended);
        self.remove(&user, |which, until| match which {
            Some(_) if until == Timestamp::default() => all_ended,
            _ => until <= ended,
        });
    }

    fn remove(
        &mut self,
        user: &UserId,
        is_over: impl Fn(&Option<ConnectionId>, Timestamp) -> bool,
    ) {
        let of_user = self.marks.range((user.clone(), None)..);
        let of_user = of_user.take_while(|((owner, _), _)| owner == user);
        let over = of_user.filter(|((_, connection), until)| is_over(connection, **until));
        let over: Vec<Closed> = over.map(|(which, _)| which.clone()).collect();
        for which in over {
            self.marks.remove(&which);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.order.is_empty()
    }
}
