use crate::presence::UserId;

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
            bus: named("bus"),
            prefix: prefix.to_owned(),
        }
    }

    /// Exists exactly while the user is online: `1` for the unnamed connection alone, else `*`.
    pub(super) fn user(&self, user: &UserId) -> String {
        self.of_user("user:", user)
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
        rest.is_some_and(|rest| rest.starts_with(b"user:"))
    }

    fn of_user(&self, kind: &str, user: &UserId) -> String {
        let mut name = String::with_capacity(self.prefix.len() + kind.len() + user.as_str().len());
        name.push_str(&self.prefix);
        name.push_str(kind);
        name.push_str(user.as_str());
        name
    }
}
