//! What every connection of a worker is served with.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use tokio::sync::watch;

use super::request_limits::RequestLimits;
use crate::http::Admission;
use crate::http::Front;

/// Shared by the connections of a worker.
#[derive(Debug)]
pub(super) struct WorkerContext {
    pub(super) front: Front,
    pub(super) room: Arc<RequestLimits>,
    pub(super) admission: Arc<Admission>,
    /// How long a connection may be idle.
    pub(super) keep_alive: Duration,
    pub(super) http1: http1::Builder,
    /// Changes, or ends, when the service is to end.
    pub(super) drain: watch::Receiver<()>,
    /// ConnectionGuard by each connection that is not idle.
    pub(super) busy: Busy,
}

/// A mark of a worker's load.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<()>);

impl Busy {
    /// How many others hold it beside the one that asks.
    pub(super) fn others(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}
