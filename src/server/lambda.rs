//! The service as an AWS Lambda function.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::debug;

use super::{Server, ServerError, ended};
use crate::http::{BulkCalls, fronts};
use crate::net::Lambda;
use crate::store::{SWEEP_HEARTBEAT, Store, StoreError, Swept};

/// How long the sweep after an invocation may take. AWS bills this time.
const SWEEP_LIMIT: Duration = Duration::from_secs(2);

impl Server {
    /// Answers the invocations of the function until the runtime API or a background task fails.
    ///
    /// One runtime and one connection to the store serve everything: an invocation is one request.
    pub async fn serve_lambda(self) -> ServerError {
        let mut tasks = self.background();
        let state = self.state(self.presence(Arc::clone(&self.store)));
        let bulk = BulkCalls::new(Handle::current(), state.clone());
        let Some(front) = fronts(&self.config, &bulk, [state].into_iter()).pop() else {
            return ServerError::NotOnLambda;
        };
        let due = Due::new(Arc::clone(&self.store));
        let after = Box::new(move || Arc::clone(&due).sweep().boxed());
        let Some(lambda) = Lambda::new(&self.config.lambda, front, after) else {
            return ServerError::NotOnLambda;
        };
        self.wait_for_store().await;
        let concurrency = self.config.lambda.max_concurrency.unwrap_or(1);
        tokio::select! {
            error = lambda.run(concurrency) => ServerError::RuntimeApi(error.to_string()),
            task = tasks.join_next() => ended(task),
        }
    }
}

/// The sweeps after invocations. The timer of the sweeper stands still while the process is frozen, and an invocation
/// takes a few milliseconds, so the sweeper alone would announce departures late.
#[derive(Debug)]
struct Due {
    store: Arc<Store>,
    /// The clock of the system goes on while the process is frozen.
    last: Mutex<SystemTime>,
}

impl Due {
    fn new(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            last: Mutex::new(SystemTime::UNIX_EPOCH),
        })
    }

    /// Sweeps until no user is due, if the last sweep of this kind was long enough ago.
    async fn sweep(self: Arc<Self>) {
        let now = SystemTime::now();
        {
            let mut last = self.last.lock();
            if now
                .duration_since(*last)
                .is_ok_and(|age| age < SWEEP_HEARTBEAT)
            {
                return;
            }
            *last = now;
        }
        match timeout(SWEEP_LIMIT, self.sweep_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "the sweep after an invocation failed"),
            Err(_) => debug!("the sweep after an invocation took too long"),
        }
    }

    async fn sweep_all(&self) -> Result<(), StoreError> {
        while self.store.sweep().await.and_then(Swept::finished)?.more {}
        Ok(())
    }
}
