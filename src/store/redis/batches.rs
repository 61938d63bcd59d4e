//! Sends the concurrent calls of a worker together.

pub(super) mod batchers;
pub(super) mod call_batcher;
pub(super) mod ping_batcher;
