mod groups;

use redis::{Cmd, RedisWrite};
use std::io::Write;

use super::tags::tag;
use crate::model::{Partition, Partitions, UserId};

/// The parts after the prefix in the names of keys about one user.
const USER: &str = "user:";
const CONNECTIONS: &str = "conns:";
const CLOSED: &str = "closed:";
const USER_GROUPS: &str = "user-groups:";

/// The parts after the prefix in the names of keys about one group.
const GROUP_MEMBERS: &str = "group:";
const GROUP_FORMER: &str = "group-former:";
const GROUP_COMING: &str = "group-coming:";
const GROUP_PUTS: &str = "group-puts:";
const GROUP_LIST: &str = "group-list:";
const GROUP_SEATS: &str = "group-seats:";
const GROUP_SEATED: &str = "group-seated:";
const GROUP_GONE: &str = "group-gone:";

/// The part after the prefix in the name of the key about a receiver of webhooks.
const DELIVERY: &str = "webhook:";

/// The parts after the prefix that an id follows.
const KINDS: [&str; 13] = [
    USER,
    CONNECTIONS,
    CLOSED,
    USER_GROUPS,
    GROUP_MEMBERS,
    GROUP_FORMER,
    GROUP_COMING,
    GROUP_PUTS,
    GROUP_LIST,
    GROUP_SEATS,
    GROUP_SEATED,
    GROUP_GONE,
    DELIVERY,
];

/// Separates the prefix from a name if the prefix looks like the key of a user or group in another deployment. Ids have
/// no control characters, so no key of a user begins with a prefix and this separator.
const SEPARATOR: char = '\u{1f}';

/// The names of all keys of one partition. No other code builds names. All names share one prefix and, if the store has
/// several partitions, the hash tag of the partition.
#[derive(Clone, Debug)]
pub(in crate::store::redis) struct Keys {
    /// The partition that has these keys.
    pub(in crate::store::redis) partition: Partition,
    prefix: String,
    user: String,
    connections: String,
    /// The sorted set of announced users. The scripts append `:<bucket>`, a number, for the names of the hashes with
    /// the records of only connections.
    pub(in crate::store::redis) deadlines: String,
    /// Exists while a connection is delicate: it does not absorb a stall that quiet instances may not notice.
    /// `announce.lua` builds the same name.
    pub(in crate::store::redis) delicate: String,
    pub(in crate::store::redis) events: String,
    pub(in crate::store::redis) epoch: String,
    pub(in crate::store::redis) grants: String,
    pub(in crate::store::redis) held: String,
    pub(in crate::store::redis) swept: String,
    pub(in crate::store::redis) outages: String,
    pub(in crate::store::redis) recheck: String,
    /// The states of users, and when they change without a call.
    pub(in crate::store::redis) states: String,
    pub(in crate::store::redis) changes: String,
    pub(in crate::store::redis) shortened: String,
    /// The instances by the time of their last reports, and these reports.
    pub(in crate::store::redis) instances: String,
    pub(in crate::store::redis) reports: String,
    /// The list of generations of last-seen times. `last_seen.lua` appends `:<began>:<bucket>`, two numbers, for the
    /// names of the hashes of a generation.
    pub(in crate::store::redis) last_seen: String,
    /// The groups with a PUT under way, by the time of its last step.
    pub(in crate::store::redis) puts_under_way: String,
    /// The groups with seats, by a time not after the first end of a seat.
    pub(in crate::store::redis) due_groups: String,
    /// The messages to groups that connections left.
    pub(in crate::store::redis) outbox: String,
    /// The last stamp of a step of a connection.
    pub(in crate::store::redis) stamp: String,
    /// The number of partitions of the store, as text.
    pub(in crate::store::redis) layout: String,
    /// How far a move to another store is.
    pub(in crate::store::redis) moving: String,
    /// The run id of the master of a cluster that served the partition last; see `history.lua`.
    pub(in crate::store::redis) master: String,
    /// A key that never exists. Each script has it among its keys, so a Redis Cluster runs no script while the slot is
    /// on its way to another node: a script would stop in the middle at a key that is not there any more.
    pub(in crate::store::redis) absent: String,
    pub(in crate::store::redis) bus: String,
}

impl Keys {
    pub(in crate::store::redis) fn new(
        prefix: &str,
        partitions: Partitions,
        partition: Partition,
    ) -> Self {
        let mut prefix = prefix.to_owned();
        if KINDS.iter().any(|kind| prefix.contains(kind)) {
            prefix.push(SEPARATOR);
        }
        if let Some(tag) = tag(partitions, partition) {
            prefix.push_str(&format!("{{{tag}}}:"));
        }
        let named = |name: &str| format!("{prefix}{name}");
        Self {
            partition,
            user: named(USER),
            connections: named(CONNECTIONS),
            deadlines: named("deadlines"),
            delicate: named("delicate"),
            events: named("events"),
            epoch: named("epoch"),
            grants: named("grants"),
            held: named("held"),
            swept: named("swept"),
            outages: named("outages"),
            recheck: named("recheck"),
            states: named("states"),
            changes: named("changes"),
            shortened: named("shortened"),
            instances: named("instances"),
            reports: named("reports"),
            last_seen: named("seen"),
            puts_under_way: named("puts"),
            due_groups: named("due-groups"),
            outbox: named("outbox"),
            stamp: named("stamp"),
            layout: named("layout"),
            moving: named("moving"),
            master: named("master"),
            absent: named("absent"),
            bus: named("bus"),
            prefix,
        }
    }

    /// The key that exists exactly while the user is online. Its value is the number of a grant, and the id of the
    /// connection unless it is the unnamed one, if the user has one connection, else `*`.
    pub(in crate::store::redis) fn user(&self, user: &UserId) -> String {
        self.of_user(USER, user)
    }

    /// Appends the key of the user to the arguments of `command`, without an allocation.
    pub(in crate::store::redis) fn add_user(&self, command: &mut Cmd, user: &UserId) {
        let mut argument = command.writer_for_next_arg();
        for part in [&self.user, user.as_str()] {
            // A write into memory cannot fail.
            let _ = argument.write_all(part.as_bytes());
        }
    }

    /// Appends the key of the user to `names`.
    pub(in crate::store::redis) fn push_user(&self, names: &mut String, user: &UserId) {
        names.push_str(&self.user);
        names.push_str(user.as_str());
    }

    /// How the key of each user begins.
    pub(in crate::store::redis) fn user_prefix(&self) -> &str {
        &self.user
    }

    /// How the key of the connections of each user begins.
    pub(in crate::store::redis) fn connections_prefix(&self) -> &str {
        &self.connections
    }

    /// The deadlines and grants of the connections of a user whose key has the value `*`.
    pub(in crate::store::redis) fn connections(&self, user: &UserId) -> String {
        self.of_user(CONNECTIONS, user)
    }

    /// The connections of the user that were closed a moment ago.
    pub(in crate::store::redis) fn closed(&self, user: &UserId) -> String {
        self.of_user(CLOSED, user)
    }

    /// The groups in which the user may be stored, with the time of the last call that meant to store it.
    pub(in crate::store::redis) fn user_groups(&self, user: &UserId) -> String {
        self.of_user(USER_GROUPS, user)
    }

    /// How far the delivery of webhooks to a receiver is.
    pub(in crate::store::redis) fn delivery(&self, receiver: &str) -> String {
        format!("{}{DELIVERY}{receiver}", self.prefix)
    }

    /// Whether `key` is the key of a user.
    pub(in crate::store::redis) fn is_user(&self, key: &[u8]) -> bool {
        key.starts_with(self.user.as_bytes())
    }

    fn of_user(&self, kind: &str, user: &UserId) -> String {
        self.named(kind, user.as_str())
    }

    fn named(&self, kind: &str, id: &str) -> String {
        let mut name = String::with_capacity(self.prefix.len() + kind.len() + id.len());
        name.push_str(&self.prefix);
        name.push_str(kind);
        name.push_str(id);
        name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::GroupId;
    use proptest::prelude::*;

    /// All names of a deployment with these users, in the first and in the last partition.
    fn names(prefix: &str, partitions: Partitions, users: &[UserId]) -> Vec<String> {
        let all = [0, partitions.count() - 1].map(|index| partitions.get(index).expect("one"));
        let first_and_last = all.map(|each| names_of(&Keys::new(prefix, partitions, each), users));
        first_and_last.concat()
    }

    fn names_of(keys: &Keys, users: &[UserId]) -> Vec<String> {
        let mut names = vec![
            keys.deadlines.clone(),
            keys.delicate.clone(),
            keys.events.clone(),
            keys.epoch.clone(),
            keys.grants.clone(),
            keys.held.clone(),
            keys.swept.clone(),
            keys.outages.clone(),
            keys.recheck.clone(),
            keys.states.clone(),
            keys.changes.clone(),
            keys.shortened.clone(),
            keys.instances.clone(),
            keys.reports.clone(),
            keys.last_seen.clone(),
            keys.puts_under_way.clone(),
            keys.due_groups.clone(),
            keys.outbox.clone(),
            keys.stamp.clone(),
            keys.layout.clone(),
            keys.moving.clone(),
            keys.master.clone(),
            keys.absent.clone(),
        ];
        for user in users {
            names.extend([keys.user(user), keys.connections(user), keys.closed(user)]);
            names.extend([keys.user_groups(user), keys.delivery(user.as_str())]);
            let group = GroupId::new(user.as_str()).expect("an id");
            names.extend([keys.group_members(&group), keys.group_former(&group)]);
            names.extend([keys.group_coming(&group), keys.group_puts(&group)]);
            names.extend([keys.group_seats(&group), keys.group_seated(&group)]);
            names.push(keys.group_gone(&group));
            names.extend([1, 12].map(|put| keys.group_list(&group, put)));
        }
        names.extend([1, 2, 12].map(|bucket| format!("{}:{bucket}", keys.deadlines)));
        for generation in [1, 12] {
            names.extend(
                [1, 2, 12].map(|bucket| format!("{}:{generation}:{bucket}", keys.last_seen)),
            );
        }
        names
    }

    proptest! {
        /// Prefixes and ids are built from parts of names, so that they nearly collide.
        #[test]
        fn two_deployments_never_share_a_name(
            prefixes in ["(a|:|user|er|conns|seen|closed|group|-list|-puts|s|d|1|2){1,4}", "(a|:|user|er|conns|seen|closed|group|-list|-puts|s|d|1|2){1,4}"],
            ids in proptest::collection::vec("(user|conns|seen|closed|deadlines|recheck|group|-list|-groups|ser|[{]1bz[}]|:|a|1|2){1,4}", 1..6),
            counts in [proptest::sample::select(&[1_u16, 16, 64][..]), proptest::sample::select(&[1_u16, 16, 64][..])],
        ) {
            prop_assume!(prefixes[0] != prefixes[1] || counts[0].min(counts[1]) == 1 && counts[0] != counts[1]);
            let users: Vec<_> = ids.iter().filter_map(|id| UserId::new(id).ok()).collect();
            let mut owners = HashMap::new();
            for deployment in prefixes.iter().zip(counts) {
                let partitions = Partitions::new(deployment.1).expect("a number of partitions");
                for name in names(deployment.0, partitions, &users) {
                    if let Some(other) = owners.insert(name.clone(), deployment) {
                        prop_assert_eq!(other, deployment, "{}", name);
                    }
                }
            }
        }
    }

    #[test]
    fn the_default_names_have_no_separator() {
        let keys = Keys::new("presence:", Partitions::ONE, Partition::FIRST);
        let alice = UserId::new("alice").expect("an id");
        assert_eq!(keys.user(&alice), "presence:user:alice");
        assert_eq!(keys.deadlines, "presence:deadlines");
        let nested = Keys::new("presence:user:", Partitions::ONE, Partition::FIRST);
        assert_eq!(nested.deadlines, "presence:user:\u{1f}deadlines");
        assert!(!keys.is_user(b"presence:conns:alice") && keys.is_user(b"presence:user:alice"));
    }

    #[test]
    fn every_key_is_in_the_table_of_the_architecture() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("a file");
        let (_, table) = text.split_once("| Key | Type |").expect("the table");
        let (table, _) = table.split_once("\n\n").expect("its end");
        let keys = Keys::new("", Partitions::ONE, Partition::FIRST);
        let mut names = names_of(&keys, &[UserId::new("alice").expect("an id")]);
        names.push(keys.bus);
        for name in names {
            let begins = match name.split_once(':') {
                Some((kind, _)) => format!("`{kind}:"),
                None => format!("`{name}`"),
            };
            assert!(table.contains(&begins), "{name}");
        }
    }

    #[test]
    fn the_keys_of_groups_are_known_by_their_pattern() {
        let group = GroupId::new("a}:b").expect("an id");
        for count in [1, 64] {
            let partitions = Partitions::new(count).expect("a number of partitions");
            let last = partitions.all().last().expect("one");
            let [first, last] =
                [Partition::FIRST, last].map(|each| Keys::new("p*:", partitions, each));
            let pattern = ["p\\*:group*", "p\\*:{*}:group*"][usize::from(count > 1)];
            assert_eq!(first.groups_pattern(), pattern);
            for name in [last.group_members(&group), last.group_former(&group)] {
                assert_eq!(first.group_of(&name), Some("a}:b"), "{name}");
            }
            for name in [
                last.group_puts(&group),
                last.group_coming(&group),
                last.epoch.clone(),
            ] {
                assert_eq!(first.group_of(&name), None, "{name}");
            }
        }
    }

    #[test]
    fn the_names_of_several_partitions_have_the_tag_of_the_partition() {
        let partitions = Partitions::new(64).expect("a number of partitions");
        let keys = Keys::new("presence:", partitions, Partition::FIRST);
        let alice = UserId::new("alice").expect("an id");
        assert_eq!(keys.user(&alice), "presence:{1bz}:user:alice");
        assert_eq!(keys.deadlines, "presence:{1bz}:deadlines");
        assert_eq!(keys.bus, "presence:{1bz}:bus");
        let nested = Keys::new("presence:user:", partitions, Partition::FIRST);
        assert_eq!(nested.layout, "presence:user:\u{1f}{1bz}:layout");
    }
}
