//! Departures: the grant of a connection counts, whatever happens to settings, clocks, keys and the store.

mod bounds;
mod catching_up;
mod clock;
mod grants;
mod lost_keys;
mod prefixes;
mod returns;
mod stalls;
