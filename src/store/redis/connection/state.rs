use std::sync::Arc;

use tokio::time::Instant;

use super::server::Server;
use super::socket::Socket;
use crate::store::error::StoreError;

/// Whether a connection is open.
pub(super) enum State {
    Up(Up),
    Down { since: Instant, why: StoreError },
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Up {
    /// The number of this socket among all sockets of the connection.
    pub(super) generation: u64,
    /// The generation of the main connection when this socket was opened.
    pub(super) main_generation: u64,
    /// The primary, as far as the main connection knows.
    pub(super) server: Server,
    /// The run id of a master of a cluster, which each process has anew. Only the main connection knows it.
    pub(super) run: Option<Arc<str>>,
    pub(super) socket: Socket,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_up() { "Up" } else { "Down" })
    }
}

impl State {
    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }

    pub(super) fn generation(&self) -> Option<u64> {
        match self {
            Self::Up(up) => Some(up.generation),
            Self::Down { .. } => None,
        }
    }
}
