//! The way of an event: store, bus, hub, streams.
//!
//! [`Bus`] is the one writer of the [`Hub`], [`Streams`] opens what reads from it, and [`Sweeper`]
//! makes the events that nobody's call makes.

mod bus;
mod capacity;
mod cursor;
mod expiry;
mod frame;
mod hub;
mod payload;
mod refusal;
mod slot;
mod snapshot;
mod stream;
mod streams;

pub use self::bus::Bus;
pub use self::capacity::Full;
pub use self::cursor::Cursor;
pub use self::expiry::{Doorbell, Sweeper};
pub use self::frame::refusal;
pub use self::hub::Hub;
pub(crate) use self::hub::TICK;
pub use self::payload::{
    EndReason, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot, ResetReason,
    UserOffline, UserOnline,
};
pub use self::refusal::Refusal;
pub use self::stream::{Credential, EventStream, Interest};
pub use self::streams::{OpenError, StreamRequest, Streams};
