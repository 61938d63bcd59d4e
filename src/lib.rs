//! Who is online, right now: per-user presence over HTTP and server-sent events.
//!
//! - [`config`]: the settings.
//! - [`http`]: the route table; turns requests into calls of [`presence`] and streams of [`events`].
//! - [`model`]: the terms of presence, which everything else is written in.
//! - [`presence`]: the calls of the API.
//! - [`store`]: where the state lives, embedded or in Redis, with one contract.
//! - [`events`]: from the store through the bus and the hub to the streams; the sweeper.
//! - [`telemetry`]: logs and metrics.
//! - [`memory_budget`]: how much memory each use may take.
//!
//! A request goes down to the store; the transition that the store reports comes back up as the
//! answer, and round through bus, hub and streams as the event.

mod auth;
pub mod config;
pub mod events;
mod healthcheck;
pub mod http;
pub mod memory_budget;
pub mod model;
mod net;
pub mod presence;
mod server;
pub mod store;
mod sweeper;
pub mod telemetry;
mod tls_roots;

pub use self::healthcheck::healthcheck;
pub use self::net::fd_limit::TooFewFiles;
pub use self::server::{Running, Server, ServerError};
