//! The service as an AWS Lambda function.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::error::ServerError;
use super::{Server, ended};
use crate::http::{BulkCalls, fronts};
use crate::net::Lambda;
use crate::presence::PresenceService;
use crate::store::SWEEP_HEARTBEAT;
use crate::webhooks::Webhooks;

/// How long the work after an invocation may take. AWS bills this time, and the next invocation of this process waits.
const LIMIT: Duration = Duration::from_secs(2);

impl Server {
    /// Answers the invocations of the function until the runtime API or a background task fails.
    ///
    /// One runtime and one connection for commands serve everything: an invocation is one request.
    pub async fn serve_lambda(self) -> ServerError {
        let mut tasks = self.background();
        let mover = self.mover();
        tasks.spawn(async move {
            mover.run().await;
            "move to another store"
        });
        self.register(&mut tasks, CancellationToken::new());
        let state = self.main_state();
        let bulk = BulkCalls::new(Handle::current(), state.clone());
        let Some(front) = fronts(&self.config, &bulk, [state.clone()].into_iter()).pop() else {
            return ServerError::NotOnLambda;
        };
        let due = Due::new(&state.presence, &state.webhooks);
        let first = Arc::clone(&due);
        let after = Box::new(move || Arc::clone(&due).finish().boxed());
        let Some(lambda) = Lambda::new(&self.config.lambda, front, after) else {
            return ServerError::NotOnLambda;
        };
        self.wait_for_store().await;
        // This also fixes where a new receiver of webhooks begins.
        first.finish().await;
        let concurrency = self.config.lambda.max_concurrency.unwrap_or(1);
        tokio::select! {
            error = lambda.run(concurrency) => ServerError::RuntimeApi(error.to_string()),
            task = tasks.join_next() => ended(task),
        }
    }
}

/// The work that other instances do in the background: sweeps and webhooks. The timer of the sweeper stands still while
/// the process is frozen, and an invocation takes a few milliseconds, so the sweeper alone would be late.
#[derive(Debug)]
struct Due {
    presence: Arc<PresenceService>,
    webhooks: Arc<Webhooks>,
    /// The clock of the system goes on while the process is frozen.
    last: Mutex<SystemTime>,
}

impl Due {
    fn new(presence: &Arc<PresenceService>, webhooks: &Arc<Webhooks>) -> Arc<Self> {
        Arc::new(Self {
            presence: Arc::clone(presence),
            webhooks: Arc::clone(webhooks),
            last: Mutex::new(SystemTime::UNIX_EPOCH),
        })
    }

    /// Sends the pending webhooks, after a sweep if the last one was at least a heartbeat ago.
    async fn finish(self: Arc<Self>) {
        let began = Instant::now();
        if self.claim_sweep() {
            match timeout(LIMIT, self.presence.sweep_all()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => debug!(%error, "the sweep after an invocation failed"),
                Err(_) => debug!("the sweep after an invocation took too long"),
            }
        }
        let left = LIMIT.saturating_sub(began.elapsed());
        self.webhooks.deliver_pending(left, None).await;
    }

    /// Whether the caller has to sweep. Then no other call sweeps for a heartbeat.
    fn claim_sweep(&self) -> bool {
        let now = SystemTime::now();
        let mut last = self.last.lock();
        // An error means that the clock was set back.
        let is_due = now
            .duration_since(*last)
            .map_or(true, |age| age >= SWEEP_HEARTBEAT);
        if is_due {
            *last = now;
        }
        is_due
    }
}
