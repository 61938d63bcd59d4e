//! What the tests (`tests/it`) and the benchmarks (`benches/claims`) stand on: child processes, a real Redis, instances
//! of the service, a network that fails, and clients of the API.
//!
//! A crate of its own, and not a module that both include: the two use different parts of it, and the compiler would
//! report each part that one of them leaves out as dead code.

pub mod client;
pub mod cluster;
pub mod instance;
pub mod memory_limit;
pub mod process;
pub mod proxy;
pub mod redis_server;
pub mod sentinels;
pub mod serial;
pub mod sse;
pub mod timestamp;
pub mod wait;
