//! The HTTP API and the event stream as `docs/api.md` and `docs/events.md` describe them.

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
