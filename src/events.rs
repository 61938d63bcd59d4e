//! Events from the store to the client: bus, hub, subscribers, streams.
//!
//! [`Bus`] writes all events into the [`Hub`]. [`StreamService`] opens the streams that read from
//! it.

mod bus;
mod doorbell;
mod hub;
mod interest;
mod limits;
mod opening;
mod shared_read;
mod snapshots;
mod sse;
mod stream;
mod stream_limit;
mod stream_service;
mod subscriber;

pub use self::bus::Bus;
pub use self::doorbell::Doorbell;
pub use self::hub::Hub;
pub(crate) use self::hub::TICK;
pub use self::interest::Interest;
pub use self::limits::Limits;
pub use self::sse::cursor::Cursor;
pub use self::sse::frame::Frame;
pub use self::sse::payload::{
    EndReason, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot, ResetReason,
    UserOffline, UserOnline,
};
pub use self::sse::refusal::StreamRefusal;
pub use self::stream::{EventStream, StreamClosed};
pub use self::stream_limit::StreamLimitReached;
pub use self::stream_service::{OpenError, StreamRequest, StreamService};
