//! The steps of a random history.

use proptest::prelude::*;

use super::model::Touch;
use super::{CONNECTIONS, GRANTS, USERS};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Touch(Touch, usize, usize),
    Disconnect(usize, usize),
    /// After a grace period in milliseconds.
    Leave(usize, usize, u64),
    DisconnectAll(usize),
    Look(usize),
    LookAtAll,
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
    prop_oneof![
        6 => (user.clone(), connection.clone()).prop_map(|(u, c)| Step::Touch(Touch::Connect, u, c)),
        10 => (user.clone(), connection.clone()).prop_map(|(u, c)| Step::Touch(Touch::Ping, u, c)),
        4 => (user.clone(), connection.clone()).prop_map(|(u, c)| Step::Disconnect(u, c)),
        3 => (user.clone(), connection, 1_u64..300).prop_map(|(u, c, grace)| Step::Leave(u, c, grace)),
        1 => user.clone().prop_map(Step::DisconnectAll),
        6 => user.prop_map(Step::Look),
        4 => Just(Step::LookAtAll),
        8 => Just(Step::Sweep),
        8 => (1_u64..100).prop_map(Step::Pass),
        1 => Just(Step::Stall),
        1 => (-3_000_i64..3_000).prop_map(Step::SetClock),
    ]
}
