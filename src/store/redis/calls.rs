//! The operations of the store, each subject in one file.

pub(super) mod beat;
pub(super) mod deliveries;
pub(super) mod groups;
pub(super) mod history;
pub(super) mod instances;
pub(super) mod lookups;
pub(super) mod moving;
pub(super) mod pages;
pub(super) mod ready;
pub(super) mod sweep;
pub(super) mod sweep_round;
pub(super) mod transitions;
