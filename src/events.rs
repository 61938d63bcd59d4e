//! The way of an event: store, bus, hub, streams.
//!
//! [`Bus`] is the one writer of the [`Hub`], [`Streams`] opens what reads from it, and [`Sweeper`]
//! makes the events that nobody's call makes.

mod ages;
mod bus;
mod capacity;
mod chosen;
mod cursor;
mod everyone;
mod expiry;
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
pub use self::expiry::{Doorbell, Sweeper};
pub use self::hub::Hub;
pub(crate) use self::hub::TICK;
pub use self::limits::Limits;
pub use self::payload::{
    EndReason, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot, ResetReason,
    UserOffline, UserOnline,
};
pub use self::refusal::StreamRefusal;
pub use self::stream::{Credential, EventStream, Interest, StreamEnd};
pub use self::streams::{OpenError, StreamRequest, Streams};
