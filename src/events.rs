//! The way of an event: store, bus, hub, streams.
//!
//! [`Bus`] is the one writer of the [`Hub`], and [`Streams`] opens what reads from it.

mod ages;
mod bus;
mod capacity;
mod chosen;
mod cursor;
mod doorbell;
mod everyone;
mod failures;
mod frame;
mod hub;
mod index;
mod joining;
mod limits;
mod opening;
mod payload;
mod refusal;
mod replay;
mod ring;
mod shared;
mod slot;
mod snapshot;
mod stream;
mod streams;
mod waiting;

pub use self::bus::Bus;
pub use self::capacity::Full;
pub use self::cursor::Cursor;
pub use self::doorbell::Doorbell;
pub use self::hub::Hub;
pub(crate) use self::hub::TICK;
pub use self::limits::Limits;
pub use self::payload::{
    EndReason, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot, ResetReason,
    UserOffline, UserOnline,
};
pub use self::refusal::StreamRefusal;
pub use self::stream::{EventStream, Interest, StreamEnd};
pub use self::streams::{OpenError, StreamRequest, Streams};
