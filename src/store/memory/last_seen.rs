//! When the users who left were alive last: bounded by time, and by bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::history::id_bytes;
use crate::model::{Timestamp, UserId};

/// The most bytes of all entries; the oldest are dropped first.
const MOST_BYTES: u64 = 64 << 20;

/// What an entry takes beside the user's id, as measured: 32 bytes in one tree and 24 in another,
/// whose nodes are half full where the ids come in order.
const ENTRY_BYTES: u64 = 130;

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Timestamp,
    written: Timestamp,
}

/// The last-seen times of the users who left.
#[derive(Debug, Default)]
pub(super) struct LastSeen {
    users: BTreeMap<UserId, Seen>,
    /// The same users by when they left.
    order: BTreeSet<(Timestamp, UserId)>,
    bytes: u64,
}

impl LastSeen {
    /// Keeps that `user`, who leaves `now`, was seen `at`.
    pub(super) fn keep(&mut self, user: UserId, at: Timestamp, now: Timestamp) {
        self.forget(&user);
        self.bytes += ENTRY_BYTES + id_bytes(&user);
        self.order.insert((now, user.clone()));
        self.users.insert(user, Seen { at, written: now });
        while self.bytes > MOST_BYTES {
            self.drop_oldest();
        }
    }

    /// When `user` was seen, if that was written `retention` ago or later.
    pub(super) fn of(
        &self,
        user: &UserId,
        now: Timestamp,
        retention: Duration,
    ) -> Option<Timestamp> {
        let seen = self.users.get(user)?;
        (seen.written >= now.minus(retention)).then_some(seen.at)
    }

    /// Forgets a user, such as one who came back.
    pub(super) fn forget(&mut self, user: &UserId) {
        if let Some((user, seen)) = self.users.remove_entry(user) {
            self.bytes -= ENTRY_BYTES + id_bytes(&user);
            self.order.remove(&(seen.written, user));
        }
    }

    /// Forgets all who left before `oldest_kept`.
    pub(super) fn trim(&mut self, oldest_kept: Timestamp) {
        while self
            .order
            .first()
            .is_some_and(|(written, _)| *written < oldest_kept)
        {
            self.drop_oldest();
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.order.is_empty()
    }

    fn drop_oldest(&mut self) {
        if let Some((_, user)) = self.order.pop_first() {
            self.bytes -= ENTRY_BYTES + id_bytes(&user);
            self.users.remove(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_dropped_where_there_are_too_many() {
        let mut seen = LastSeen::default();
        let user = |number: u64| UserId::new(&format!("guest-{number:08}")).expect("an id");
        let most = MOST_BYTES / (ENTRY_BYTES + id_bytes(&user(0)));
        for number in 0..most + 10 {
            let now = Timestamp::from_millis(number);
            seen.keep(user(number), now, now);
        }
        let now = Timestamp::from_millis(most + 10);
        let of = |number| seen.of(&user(number), now, Duration::from_secs(1 << 30));
        assert_eq!((of(9), of(10)), (None, Some(Timestamp::from_millis(10))));
        assert_eq!(seen.users.len() as u64, most);
        assert_eq!(seen.order.len() as u64, most);
        (0..most + 10).for_each(|number| seen.forget(&user(number)));
        assert_eq!((seen.users.len(), seen.order.len(), seen.bytes), (0, 0, 0));
    }
}
