//! The names of the keys about groups.

use super::{
    GROUP_COMING, GROUP_FORMER, GROUP_GONE, GROUP_LIST, GROUP_MEMBERS, GROUP_PUTS, GROUP_SEATED,
    GROUP_SEATS, Keys,
};
use crate::model::GroupId;

impl Keys {
    /// The stored members of a group that a PUT under way has reached; all of them if there is no such PUT.
    pub(in crate::store::redis) fn group_members(&self, group: &GroupId) -> String {
        self.named(GROUP_MEMBERS, group.as_str())
    }

    /// The stored members of a group that the PUT under way has not reached yet.
    pub(in crate::store::redis) fn group_former(&self, group: &GroupId) -> String {
        self.named(GROUP_FORMER, group.as_str())
    }

    /// The rest of the list of the PUT under way.
    pub(in crate::store::redis) fn group_coming(&self, group: &GroupId) -> String {
        self.named(GROUP_COMING, group.as_str())
    }

    /// The numbers of the last PUTs of a group.
    pub(in crate::store::redis) fn group_puts(&self, group: &GroupId) -> String {
        self.named(GROUP_PUTS, group.as_str())
    }

    /// The seats of connections in a group, by deadline.
    pub(in crate::store::redis) fn group_seats(&self, group: &GroupId) -> String {
        self.named(GROUP_SEATS, group.as_str())
    }

    /// The users with seats in a group.
    pub(in crate::store::redis) fn group_seated(&self, group: &GroupId) -> String {
        self.named(GROUP_SEATED, group.as_str())
    }

    /// The stamps of the connections that left a group a moment ago.
    pub(in crate::store::redis) fn group_gone(&self, group: &GroupId) -> String {
        self.named(GROUP_GONE, group.as_str())
    }

    /// The list of a PUT that is arriving.
    pub(in crate::store::redis) fn group_list(&self, group: &GroupId, put: u64) -> String {
        let prefix = &self.prefix;
        format!("{prefix}{GROUP_LIST}{put}:{group}")
    }

    /// A pattern of `SCAN` for the keys about groups of all partitions.
    pub(in crate::store::redis) fn groups_pattern(&self) -> String {
        let (own, tags) = self.untagged();
        let mut pattern = String::new();
        for c in own.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern + tags + "group*"
    }

    /// The id of the group whose stored members are in the key `name`. `None` for any other key.
    pub(in crate::store::redis) fn group_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let (own, tags) = self.untagged();
        let mut rest = name.strip_prefix(own)?;
        if !tags.is_empty() {
            rest = rest.split_once("}:")?.1;
        }
        let former = rest.strip_prefix(GROUP_FORMER);
        former.or_else(|| rest.strip_prefix(GROUP_MEMBERS))
    }

    /// The prefix without the hash tag, and a pattern for the hash tags.
    fn untagged(&self) -> (&str, &'static str) {
        match self.prefix.rfind('{') {
            Some(at) => (&self.prefix[..at], "{*}:"),
            None => (&self.prefix, ""),
        }
    }
}
