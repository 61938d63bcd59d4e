//! The service on a Redis Cluster, whose nodes die, freeze, fail over, join and leave, and whose slots move.

mod bad_input;
mod departures;
mod failover;
mod ground;
mod moving_slots;
mod returns;
mod scene;
mod serving;
mod soak;
mod streams;
mod thawed;
