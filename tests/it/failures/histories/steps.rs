//! The steps of a random history.

use proptest::prelude::*;

use super::model::Touch;
use super::{CONNECTIONS, GRANTS, GROUPS, USERS};

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Of a user, at a connection that states the groups that the bits select.
    Touch(Touch, usize, usize, usize),
    Disconnect(usize, usize),
    /// After a grace period in milliseconds.
    Leave(usize, usize, u64),
    DisconnectAll(usize),
    Look(usize),
    LookAtAll,
    /// Replaces the stored members of a group by the users that the bits select.
    Replace(usize, usize),
    /// Replaces the stored members of a group by many others, and at most one of the users that the bits select.
    ReplaceWithMany(usize, usize),
    /// Adds and removes stored members of a group.
    Change(usize, (usize, usize)),
    /// At a group, and at a user.
    LookAtGroup(usize, usize),
    Sweep,
    Pass(u64),
    Stall,
    /// Moves the clock of the store by this many milliseconds, if it can be moved.
    SetClock(i64),
}

/// A step, and the instance that makes it.
pub(super) fn step() -> impl Strategy<Value = (usize, Step)> {
    (0..GRANTS.len(), kind_of_step())
}

fn kind_of_step() -> impl Strategy<Value = Step> {
    let (user, connection) = (0..USERS.len(), 0..CONNECTIONS.len());
    let (group, groups, users) = (0..GROUPS.len(), stated(), 0..1_usize << USERS.len());
    let touched = (user.clone(), connection.clone(), groups);
    prop_oneof![
        6 => touched.clone().prop_map(|(u, c, g)| Step::Touch(Touch::Connect, u, c, g)),
        10 => touched.prop_map(|(u, c, g)| Step::Touch(Touch::Ping, u, c, g)),
        4 => (user.clone(), connection.clone()).prop_map(|(u, c)| Step::Disconnect(u, c)),
        3 => (user.clone(), connection, 1_u64..300).prop_map(|(u, c, grace)| Step::Leave(u, c, grace)),
        1 => user.clone().prop_map(Step::DisconnectAll),
        6 => user.clone().prop_map(Step::Look),
        4 => Just(Step::LookAtAll),
        2 => (group.clone(), users.clone()).prop_map(|(g, u)| Step::Replace(g, u)),
        1 => (group.clone(), users.clone()).prop_map(|(g, u)| Step::ReplaceWithMany(g, u)),
        3 => (group.clone(), (users.clone(), users)).prop_map(|(g, u)| Step::Change(g, u)),
        5 => (group, user).prop_map(|(g, u)| Step::LookAtGroup(g, u)),
        8 => Just(Step::Sweep),
        8 => (1_u64..100).prop_map(Step::Pass),
        1 => Just(Step::Stall),
        1 => (-3_000_i64..3_000).prop_map(Step::SetClock),
    ]
}

/// The bits of the groups that a connection states: mostly all or none, so that many pings state what the connection
/// stated before.
fn stated() -> impl Strategy<Value = usize> + Clone {
    let all = (1_usize << GROUPS.len()) - 1;
    prop_oneof![3 => Just(0), 4 => Just(all), 2 => 0..=all]
}
