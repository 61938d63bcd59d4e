//! What the service withstands: real processes killed, a real Redis cut and emptied.

mod bus;
mod deaths;
mod interruptions;
mod network;
mod outage;
mod races;
mod rolling_restart;
mod silence;
mod traffic;
mod versions;
