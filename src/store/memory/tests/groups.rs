//! Members by pinging after a stall.

use super::*;
use crate::model::{GroupId, LeftReason, MemberChange};
use crate::store::members::Members;

fn group() -> GroupId {
    GroupId::new("doc").expect("an id")
}

impl MemoryStore {
    fn pings_in_group(&self, name: &str) {
        let stated = Stated {
            groups: [group()].into(),
            ..Stated::default()
        };
        let connected = self.ping(&user(name), &connection("1"), &stated);
        assert_eq!(connected.expect("no refusal").not_joined, []);
    }

    /// The events of the group, such as `+alice` and `-alice expired`.
    fn member_changes(&self) -> Vec<String> {
        let history = self.history(Position::START, usize::MAX);
        let groups = history.entries.iter().filter_map(|entry| match entry {
            Entry::Group(event) => Some(event),
            _ => None,
        });
        let changes = groups.flat_map(|event| match &event.change {
            MemberChange::Joined(joined) => {
                let joined = joined.iter().map(|joined| format!("+{}", joined.user));
                joined.collect::<Vec<_>>()
            }
            MemberChange::Left { users, reason } => {
                let why = match reason {
                    LeftReason::Removed => "removed",
                    LeftReason::Disconnected => "disconnected",
                    LeftReason::Expired => "expired",
                };
                users.iter().map(|user| format!("-{user} {why}")).collect()
            }
        });
        changes.collect()
    }

    fn members(&self, which: Members) -> Vec<UserId> {
        self.group_members(&group(), which)
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_stall_members_that_ping_stay_and_the_others_leave_once() {
    let store = store(6.0, 2.5);
    for name in ["alive", "silent"] {
        store.pings_in_group(name);
    }
    store.stall(30.0).await;
    store.sweep();
    assert_eq!(store.members(Members::Now), []);
    assert_eq!(
        store.members(Members::Announced),
        [user("alive"), user("silent")]
    );
    store.pass(1.0).await;
    store.pings_in_group("alive");
    assert_eq!(store.members(Members::Now), [user("alive")]);
    store.pass(1.9).await;
    assert_eq!(store.member_changes(), ["+alive", "+silent"]);
    store.pass(0.3).await;
    let expected = ["+alive", "+silent", "-silent expired"];
    assert_eq!(store.member_changes(), expected);
    store.pass(4.0).await;
    assert_eq!(store.member_changes()[3..], ["-alive expired"]);
    assert_eq!(store.members(Members::Announced), []);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_leaves_is_not_held_in_its_groups() {
    let store = store(6.0, 2.5);
    store.pings_in_group("leaving");
    let closing = Closing::Later(connection("1"), seconds(4.0));
    store.disconnect(&user("leaving"), &closing);
    store.pass(3.8).await;
    assert_eq!(store.member_changes(), ["+leaving"]);
    store.stall(10.0).await;
    store.sweep();
    let expected = ["+leaving", "-leaving disconnected"];
    assert_eq!(store.member_changes(), expected);
}

#[tokio::test(start_paused = true)]
async fn each_membership_ends_on_time() {
    let store = store(6.0, 2.5);
    for name in ["a", "b", "c"] {
        store.pings_in_group(name);
        store.pass(1.0).await;
    }
    for pings in 0..5 {
        store.pass(2.0).await;
        store.pings_in_group("a");
        if pings < 3 {
            store.pings_in_group("b");
        }
    }
    let expected = ["+a", "+b", "+c", "-c expired"];
    assert_eq!(store.member_changes(), expected);
    store.pass(2.1).await;
    assert_eq!(store.member_changes()[4..], ["-b expired"]);
    store.pass(4.1).await;
    assert_eq!(store.member_changes()[5..], ["-a expired"]);
}
