//! Events from the store to the client: bus, hub, subscribers, streams.
//!
//! [`Bus`] writes all events into the [`Hub`]. [`StreamService`] opens the streams that read from
//! it.

mod bus;
mod call_queue;
mod copy_filler;
mod doorbell;
mod event_list;
mod hub;
mod interest;
mod item;
mod limits;
mod opening;
mod shared_read;
mod snapshots;
mod sse;
mod stream;
mod stream_limit;
mod stream_service;
mod subscriber;

pub(crate) use self::bus::Bus;
pub(crate) use self::doorbell::Doorbell;
pub(crate) use self::event_list::EventList;
pub(crate) use self::hub::Hub;
pub(crate) use self::hub::TICK;
pub(crate) use self::interest::{Interest, Wanted};
pub(crate) use self::item::{Item, item, reset_item};
pub(crate) use self::limits::Limits;
pub(crate) use self::sse::cursor::{Cursor, Id};
pub(crate) use self::sse::frame::Frame;
pub(crate) use self::sse::payload::{
    GroupJoined, GroupLeft, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot,
    ResetReason, UserOffline, UserOnline, UserUpdated,
};
pub(crate) use self::sse::refusal::StreamRefusal;
pub(crate) use self::stream::{EventStream, StreamClosed};
pub(crate) use self::stream_limit::StreamLimitReached;
pub(crate) use self::stream_service::{OpenError, StreamRequest, StreamService};
