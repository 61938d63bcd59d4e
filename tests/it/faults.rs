//! What the service withstands: real processes killed, a real Redis cut and emptied.

mod bus;
mod deaths;
mod interruptions;
mod lost_history;
mod network;
mod outage;
mod races;
mod rolling_restart;
mod silence;
mod throttled;
mod traffic;
mod versions;
