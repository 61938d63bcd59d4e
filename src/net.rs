//! Client connections: accepted by a [`Listener`], served by a [`Worker`] over HTTP/1 or HTTP/2. On AWS Lambda there
//! are none: [`Lambda`] answers invocations.

mod activity;
mod connection_limit;
mod disconnect;
mod event_writer;
pub(crate) mod fd_limit;
mod http1;
mod http2;
mod idle;
mod in_flight;
mod lambda;
mod listener;
mod request_body;
mod request_head;
mod request_limits;
mod response;
mod response_head;
mod serve;
mod short_response;
mod socket;
mod spread;
mod stream;
mod stream_turns;
mod time_limits;
mod unserved_requests;
mod worker;
mod worker_threads;

pub(crate) use self::lambda::Lambda;
pub(crate) use self::listener::{Listener, ListenerLimits};
pub(crate) use self::worker::Worker;
pub(crate) use self::worker_threads::WorkerThreads;

#[cfg(test)]
mod tests;
