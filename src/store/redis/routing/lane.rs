//! The connections of one worker to one server.

use std::sync::Arc;

use crate::store::error::StoreError;
use crate::store::redis::connection::{Checkout, Role, SupervisedConnection};
use crate::store::redis::node::{Node, left_the_cluster};

/// What one worker has for one server.
#[derive(Debug)]
pub(in crate::store::redis) struct Lane {
    pub(in crate::store::redis) node: Arc<Node>,
    /// `None` in the store that only uses the main connections.
    worker: Option<SupervisedConnection>,
}

impl Lane {
    /// A lane to `node`: over its main connection, or with a connection of its own, which has to be supervised.
    pub(in crate::store::redis) fn new(node: &Arc<Node>, has_own_connection: bool) -> Self {
        let worker = || SupervisedConnection::new(Role::Worker(Arc::clone(&node.main)));
        Self {
            node: Arc::clone(node),
            worker: has_own_connection.then(worker),
        }
    }

    /// Keeps the connection of the worker open, for as long as it is polled.
    pub(in crate::store::redis) async fn supervise(&self) {
        match &self.worker {
            Some(worker) => worker.supervise().await,
            None => std::future::pending().await,
        }
    }

    /// Closes the connection of the worker to a node that left the cluster.
    pub(in crate::store::redis) fn retire(&self) {
        if let Some(worker) = &self.worker {
            worker.close_now(left_the_cluster());
        }
    }

    /// A socket of the worker's connection, or of the main one while the former is down. `None` while both are down.
    pub(in crate::store::redis) fn checkout_now(&self) -> Option<Checkout<'_>> {
        let worker = self.worker.as_ref();
        let checkout = worker.and_then(SupervisedConnection::checkout);
        checkout.or_else(|| self.node.main.checkout())
    }

    /// Like [`Lane::checkout_now`]. Waits for a connection that broke just now, and probes one that was silent for
    /// long.
    pub(in crate::store::redis) async fn checkout(&self) -> Result<Checkout<'_>, StoreError> {
        // The connection of the worker, then the main one.
        for _ in 0..2 {
            let Some(mut checkout) = self.checkout_now() else {
                break;
            };
            if checkout.answers().await {
                return Ok(checkout);
            }
        }
        self.node.checkout_soon().await
    }
}
