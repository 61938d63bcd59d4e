//! When users leave: by what they were granted, whatever happens to settings, clocks, keys and the store's pauses.

mod bounds;
mod catching_up;
mod clock;
mod grants;
mod lost_keys;
mod prefixes;
mod stalls;
