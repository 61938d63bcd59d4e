//! The harness of the tests (`tests/it`) and of the benchmarks (`benches/claims`): child processes, a real Redis
//! server, instances of the service, a network that fails, and clients of the API.
//!
//! The harness is a crate. As a module in both targets, each target would report the parts that only the other one uses
//! as dead code.

pub mod client;
pub mod deployment;
pub mod groups;
pub mod instance;
pub mod memory_limit;
pub mod names;
pub mod process;
pub mod proxy;
pub mod redis_cluster;
pub mod redis_server;
pub mod sentinels;
pub mod serial;
mod shared_cluster;
pub mod sse;
pub mod timestamp;
pub mod wait;
