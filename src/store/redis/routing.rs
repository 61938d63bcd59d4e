//! The way of a command to the node that serves its partition.

pub(super) mod lane;
pub(super) mod lanes;
pub(super) mod pursuit;
pub(super) mod route;
pub(super) mod supervision;
pub(super) mod topology;
