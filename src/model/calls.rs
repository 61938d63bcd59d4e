//! The results of the calls about one user, and their refusals.

use thiserror::Error;

use super::{ConnectionId, Timestamp};

/// What opening or refreshing a connection did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Whether this call, and no other, brought the user online.
    pub became_online: bool,
    /// When the connection expires unless it is refreshed.
    pub expires_at: Timestamp,
}

/// Why the store refuses to open or refresh a connection, which changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The connection was closed less than 10 s ago. Only a ping is refused for this: a connect
    /// opens the connection again.
    #[error("the connection was closed; connect opens it again")]
    ConnectionClosed,
    /// The user has as many live connections as are allowed.
    #[error("the user has {most} live connections, the most allowed")]
    TooManyConnections {
        /// The most live connections of one user.
        most: u32,
    },
}

/// Which connections a disconnect closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// This one.
    One(ConnectionId),
    /// All the user has.
    All,
}

/// What closing connections did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnected {
    /// Whether another connection keeps the user online.
    pub online: bool,
    /// Whether this call, and no other, took the user offline.
    pub became_offline: bool,
}

/// One user, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserState {
    /// The connections that have not expired, in the order of their ids.
    pub connections: Vec<(ConnectionId, Timestamp)>,
    /// Whether the user is online.
    pub online: bool,
    /// The last moment the user was known to be alive, where that is still kept.
    pub last_seen_at: Option<Timestamp>,
}
