//! Failures of instances, of Redis and of the network between them: no failure loses or repeats an event.
//!
//! The tests with a [`scene::Scene`] let Redis fail for a while. Two instances serve users of whom some keep pinging
//! and some fell silent just before. While Redis fails, each call is answered or refused in time. Once Redis is back,
//! the silent users leave once and the pinging users never left.

mod bus;
mod cut_streams;
mod data_loss;
mod departures;
mod histories;
mod instance_deaths;
mod lateness;
mod load_shedding;
mod lost_history;
mod network;
mod paused_instances;
pub(crate) mod pingers;
mod races;
mod redis_connections;
mod redis_errors;
mod redis_restarts;
mod rolling_restart;
pub(crate) mod scene;
mod sentinel;
mod soak;
mod traffic;
mod unknown_entries;
