//! Connections to Redis.

mod connecting;
mod endpoint;
pub(super) mod errors;
mod main_connection;
mod own_connection;
mod server;
mod server_info;

pub(super) use self::connecting::in_time;
pub(super) use self::endpoint::Endpoint;
pub(super) use self::main_connection::{MainConnection, Moved};
pub(super) use self::own_connection::OwnConnection;
