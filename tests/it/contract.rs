//! The HTTP API and the event stream as design.md describes them.

mod bytes;
pub(crate) mod documents;
mod events;
mod groups;
mod online;
mod openapi;
mod problems;
mod protocols;
mod resume;
mod service;
mod timestamps;
mod users;
