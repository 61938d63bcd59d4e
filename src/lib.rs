//! Shows which users are online, over HTTP and Server-Sent Events.
//!
//! The layers, from the lowest. A module uses only modules below it:
//!
//! - `model`: the domain types.
//! - `store`: the state, in memory or in Redis, with one contract.
//! - `presence`: the calls of the API, without HTTP.
//! - `events`: from the history of the store through the bus and the hub to the streams.
//! - `http`: routes, handlers, extractors and problem documents.
//! - `net`: the client connections.
//! - `server`: assembles the parts.
//!
//! Beside the layers: `sweeper` announces departures, `webhooks` sends the events to receivers, `registration` makes
//! the instance known to operators, `moving` moves to another store, `auth` finds the caller of a request and its
//! permissions, `config` has the settings, `telemetry` the log and the metrics.

mod auth;
pub mod config;
mod events;
mod healthcheck;
mod http;
mod memory_budget;
pub mod model;
mod moving;
mod net;
mod outgoing;
mod presence;
mod registration;
mod server;
pub mod store;
mod sweeper;
pub mod telemetry;
mod tls_roots;
mod webhooks;

pub use self::healthcheck::healthcheck;
pub use self::http::openapi;
pub use self::server::{Server, ServerError};
