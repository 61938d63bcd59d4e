use std::io::Write;

use redis::{Cmd, RedisWrite};

use crate::presence::UserId;

/// What follows the prefix in the name of a user's key.
const USER: &str = "user:";

/// The names of all our keys, built nowhere else.
///
/// They share one prefix and, on a single Redis, one partition.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    pub(super) deadlines: String,
    pub(super) events: String,
    pub(super) epoch: String,
    pub(super) swept: String,
    pub(super) grace: String,
    pub(super) shortened: String,
    pub(super) bus: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let named = |name: &str| format!("{prefix}{name}");
        Self {
            deadlines: named("deadlines"),
            events: named("events"),
            epoch: named("epoch"),
            swept: named("swept"),
            grace: named("grace"),
            shortened: named("shortened"),
            bus: named("bus"),
            prefix: prefix.to_owned(),
        }
    }

    /// Exists exactly while the user is online: `1` for the unnamed connection alone, else `*`.
    pub(super) fn user(&self, user: &UserId) -> String {
        self.of_user(USER, user)
    }

    /// The key of the user as one more argument of a command, of which there may be a thousand.
    pub(super) fn add_user(&self, command: &mut Cmd, user: &UserId) {
        let mut argument = command.writer_for_next_arg();
        for part in [&self.prefix, USER, user.as_str()] {
            // What writes into memory cannot fail.
            let _ = argument.write_all(part.as_bytes());
        }
    }

    /// The connections of a user whose key says `*`, by deadline.
    pub(super) fn connections(&self, user: &UserId) -> String {
        self.of_user("conns:", user)
    }

    /// When a user who left was last seen.
    pub(super) fn seen(&self, user: &UserId) -> String {
        self.of_user("seen:", user)
    }

    /// Whether an expiry notification for `key` is about one of our users.
    pub(super) fn is_user(&self, key: &[u8]) -> bool {
        let rest = key.strip_prefix(self.prefix.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(USER.as_bytes()))
    }

    fn of_user(&self, kind: &str, user: &UserId) -> String {
        let mut name = String::with_capacity(self.prefix.len() + kind.len() + user.as_str().len());
        name.push_str(&self.prefix);
        name.push_str(kind);
        name.push_str(user.as_str());
        name
    }
}
