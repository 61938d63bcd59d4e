//! A worker, and the parts that its connections share.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection_limit::ConnectionGuard;
use super::request_limits::RequestLimits;
use super::stream_turns::StreamTurns;
use crate::http::{Admission, Front};

/// Where connections are served, and what answers their requests.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(super) runtime: Handle,
    pub(super) front: Front,
}

impl Worker {
    /// Serves connections with tasks of `runtime`.
    pub(crate) fn new(runtime: Handle, front: Front) -> Self {
        Self { runtime, front }
    }
}

/// What the connections of a worker share.
#[derive(Debug)]
pub(super) struct WorkerContext {
    pub(super) front: Front,
    pub(super) limits: Arc<RequestLimits>,
    pub(super) admission: Arc<Admission>,
    /// How long a connection may be idle.
    pub(super) keep_alive: Duration,
    /// Cancelled when every connection must end with the request that is in progress.
    pub(super) drain: CancellationToken,
    /// The connections that are not idle: the load of the worker.
    pub(super) active: TaskTracker,
    /// The queue of streams that wait to write.
    pub(super) turns: StreamTurns,
    /// Asks the connection that has been idle for longest to make room for a new one.
    pub(super) make_room: Notify,
}

/// A client connection, and the parts that belong to it until it ends.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) worker: Arc<WorkerContext>,
    pub(super) guard: ConnectionGuard,
}
