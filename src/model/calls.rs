//! The results and refusals of the calls about one user.

use std::time::Duration;

use thiserror::Error;

use super::connection_id::ConnectionId;
use super::id::GroupId;
use super::state::LastingStatus;
use super::timestamp::{Timestamp, millis};

/// What a connection states with each connect and ping, in addition to its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// How long the connection lives after the call. `None`: as long as the settings say.
    pub ttl: Option<Duration>,
    /// Whether the user is away at this connection.
    pub away: bool,
    /// The groups of which the user is a member by this connection, sorted, each once. At most 10.
    pub groups: Box<[GroupId]>,
}

/// The ping interval of a connection that lives for `ttl`: the ratio of interval and TTL is that of `settings`, a TTL
/// and an interval. At least a millisecond.
pub fn scaled_interval(ttl: Duration, settings: (Duration, Duration)) -> Duration {
    let (usual_ttl, usual_interval) = settings;
    if ttl == usual_ttl {
        return usual_interval;
    }
    let scaled = millis(ttl) * millis(usual_interval) / millis(usual_ttl).max(1);
    Duration::from_millis(scaled.max(1))
}

/// The result of a connect or a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Whether this call brought the user online. There is exactly one such call for each online event.
    pub became_online: bool,
    /// When the connection expires without another ping.
    pub expires_at: Timestamp,
    /// The groups that the connection states and that did not accept the user: they are full, or could not be reached.
    pub not_joined: Vec<GroupId>,
}

/// Why the store refuses a connect or a ping. A refused call changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The connection was disconnected, and ended less than 10 s ago or ends later. Only pings are refused for this
    /// reason: a connect opens the connection again.
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
    /// One connection, when this time has passed. Until then the connection counts as before.
    Later(ConnectionId, Duration),
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
    /// When the connection ends, if it was open and leaves with a grace period.
    pub leaves_at: Option<Timestamp>,
}

/// A live connection of a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveConnection {
    /// The id.
    pub id: ConnectionId,
    /// When the connection ends without another ping.
    pub expires_at: Timestamp,
    /// The time of the connect or the last ping.
    pub pinged_at: Timestamp,
    /// How long the connection lives after a ping.
    pub ttl: Duration,
    /// Whether the user is away at this connection.
    pub away: bool,
    /// When the connection ends, if it was closed with a grace period.
    pub leaves_at: Option<Timestamp>,
}

/// The state of one user at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserState {
    /// The live connections, ordered by id.
    pub connections: Vec<LiveConnection>,
    /// Whether the user is online.
    pub online: bool,
    /// Whether the user is online and every live connection is away.
    pub away: bool,
    /// The status. A user may also have one while it is offline.
    pub status: Option<LastingStatus>,
    /// The last moment at which the user was known to be alive, if the store still keeps it.
    pub last_seen_at: Option<Timestamp>,
}
