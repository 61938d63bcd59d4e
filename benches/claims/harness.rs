//! What the claims stand on: processes and their cost, the peers, clients, and the report.

pub(crate) mod calls;
pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod service;
pub(crate) mod streams;
pub(crate) mod wrk;
