//! The last-seen times of departed users, bounded by time and by bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::history::id_bytes;
use crate::model::{Timestamp, UserId};

/// The maximum size of all entries, in bytes. The oldest are dropped first.
const MAX_BYTES: u64 = 64 << 20;

/// The measured bytes of an entry without the user id: 32 in one tree and 24 in the other, whose nodes are half full if
/// ids arrive in order.
const ENTRY_BYTES: u64 = 130;

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Timestamp,
    written: Timestamp,
}

/// The last-seen times of departed users.
#[derive(Debug, Default)]
pub(super) struct LastSeen {
    users: BTreeMap<UserId, Seen>,
    /// The same users by the time of their departure.
    order: BTreeSet<(Timestamp, UserId)>,
    bytes: u64,
}

impl LastSeen {
    /// Keeps the last-seen time `at` of `user`, which departs `now`.
    pub(super) fn keep(&mut self, user: UserId, at: Timestamp, now: Timestamp) {
        self.remove(&user);
        self.bytes += ENTRY_BYTES + id_bytes(&user);
        self.order.insert((now, user.clone()));
        self.users.insert(user, Seen { at, written: now });
        while self.bytes > MAX_BYTES {
            self.drop_oldest();
        }
    }

    /// The last-seen time of `user`, if it was written within `retention`.
    pub(super) fn of(
        &self,
        user: &UserId,
        now: Timestamp,
        retention: Duration,
    ) -> Option<Timestamp> {
        let seen = self.users.get(user)?;
        (seen.written >= now.minus(retention)).then_some(seen.at)
    }

    /// Removes the entry of a user.
    pub(super) fn remove(&mut self, user: &UserId) {
        if let Some((user, seen)) = self.users.remove_entry(user) {
            self.bytes -= ENTRY_BYTES + id_bytes(&user);
            self.order.remove(&(seen.written, user));
        }
    }

    /// Removes the users that departed before `oldest_kept`.
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
        let most = MAX_BYTES / (ENTRY_BYTES + id_bytes(&user(0)));
        for number in 0..most + 10 {
            let now = Timestamp::from_millis(number);
            seen.keep(user(number), now, now);
        }
        let now = Timestamp::from_millis(most + 10);
        let of = |number| seen.of(&user(number), now, Duration::from_secs(1 << 30));
        assert_eq!((of(9), of(10)), (None, Some(Timestamp::from_millis(10))));
        assert_eq!(seen.users.len() as u64, most);
        assert_eq!(seen.order.len() as u64, most);
        (0..most + 10).for_each(|number| seen.remove(&user(number)));
        assert_eq!((seen.users.len(), seen.order.len(), seen.bytes), (0, 0, 0));
    }
}
