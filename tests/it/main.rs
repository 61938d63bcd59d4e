//! Black-box tests of the running service: real processes, a real Redis, real sockets. They know what the contract
//! says (paths, fields, events, settings, exit codes) and nothing of the code behind it.
//!
//! A test body that takes a [`harness::deployment::Store`] runs on both stores, as `embedded::name` and `redis::name`,
//! and where it shows the contract also over the other protocols, as `http1_0::name` and `http2::name`.

mod abuse;
mod auth;
mod clients;
mod contract;
mod failures;
mod ops;
