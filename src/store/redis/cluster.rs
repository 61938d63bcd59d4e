//! What this instance knows about a cluster: its nodes, their slots, and what a refusal of a node means.

pub(super) mod coverage;
pub(super) mod node_address;
pub(super) mod redirect;
pub(super) mod refresh;
pub(super) mod slots;
pub(super) mod table;
