//! Black-box tests of the running service: real processes, a real Redis, real sockets. They know what the contract
//! says (paths, fields, events, settings, exit codes) and nothing of the code behind it.
//!
//! A test body that takes a [`cluster::Store`] runs on both stores, as `embedded::name` and `redis::name`,
//! and where it shows the contract also over the other protocols, as `http1_0::name` and `http2::name`.

// What the tests stand on.
mod client;
mod cluster;
mod instance;
mod memory_limit;
mod process;
mod proxy;
mod redis_server;
mod sentinels;
mod sse;
mod timestamp;
mod wait;

// What they show.
mod abuse;
mod auth;
mod clients;
mod contract;
mod failures;
mod ops;
