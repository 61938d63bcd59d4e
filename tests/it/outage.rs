//! What callers and streams notice of a Redis that fails in every way, and of its return.
//!
//! In each case two instances serve users of whom some keep pinging and some fell silent just before. While Redis
//! fails, calls are answered or refused in time; once it is back, the silent leave once and the others never left.

mod acl;
mod greeting;
mod network;
mod pingers;
mod restarts;
mod scene;
mod sentinel;
mod server;
mod shedding;
mod tls;
mod workers;
