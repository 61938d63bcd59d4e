//! The results and refusals of the calls about one user.

use thiserror::Error;

use super::connection_id::ConnectionId;
use super::timestamp::Timestamp;

/// The result of a connect or a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Whether this call brought the user online. There is exactly one such call for each online event.
    pub became_online: bool,
    /// When the connection expires without another ping.
    pub expires_at: Timestamp,
}

/// Why the store refuses a connect or a ping. A refused call changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The connection was closed less than 10 s ago. Only pings are refused for this reason: a connect opens the
    /// connection again.
    #[error("the connection was closed; connect opens it again")]
    ConnectionClosed,
    /// The user has the maximum number of live connections.
    #[error("the user has {most} live connections, the most allowed")]
    TooManyConnections {
        /// The maximum number of live connections of one user.
        most: u32,
    },
}

/// The connections that a disconnect closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// One connection.
    One(ConnectionId),
    /// All connections of the user.
    All,
}

/// The result of a disconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnected {
    /// Whether the user is still online by another connection.
    pub online: bool,
    /// Whether this call took the user offline. There is exactly one such call for each offline
    /// event of a disconnect.
    pub became_offline: bool,
}

/// The state of one user at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserState {
    /// The live connections with their deadlines, ordered by id.
    pub connections: Vec<(ConnectionId, Timestamp)>,
    /// Whether the user is online.
    pub online: bool,
    /// The last moment at which the user was known to be alive, if the store still keeps it.
    pub last_seen_at: Option<Timestamp>,
}
