//! Where calls about many users are done.

use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::error::Error;
use crate::presence::PresenceService;

/// Does calls about many users on threads of their own. One takes as long as twenty pings, which would wait for it
/// on the thread that serves its connection.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    runtime: Handle,
    presence: Arc<PresenceService>,
}

impl Batch {
    /// Has calls done on `runtime`, by `presence`.
    pub(crate) fn new(runtime: Handle, presence: Arc<PresenceService>) -> Self {
        Self { runtime, presence }
    }

    /// What `call` answers. It is given up where its answer is not waited for any more.
    pub(super) async fn run<T, F>(
        &self,
        call: impl FnOnce(Arc<PresenceService>) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut calls = JoinSet::new();
        calls.spawn_on(call(Arc::clone(&self.presence)), &self.runtime);
        match calls.join_next().await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            _ => Err(Error::StoreUnreachable("the threads have ended".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;
    use crate::config::Config;
    use crate::store::Store;
    use crate::telemetry::Metrics;

    fn batch() -> Batch {
        let store = Store::open(&Config::default()).expect("a store in memory");
        let presence = PresenceService::new(Arc::new(store), Arc::new(Metrics::new()));
        Batch::new(Handle::current(), Arc::new(presence))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_with_whoever_waits_for_it() {
        let (begun, begins) = oneshot::channel();
        let (held, ended) = oneshot::channel::<()>();
        let batch = batch();
        let call = batch.run(|_| async {
            let _held = held;
            begun.send(()).expect("it is waited for");
            pending::<Result<(), _>>().await
        });
        tokio::select! {
            _ = call => unreachable!("it waits for ever"),
            begun = begins => begun.expect("it was not given up"),
        }
        let ended = timeout(Duration::from_secs(1), ended).await;
        ended.expect("in time").expect_err("it was given up");
    }

    #[tokio::test]
    #[should_panic(expected = "by mistake")]
    async fn a_panic_goes_on_where_the_call_was_asked_for() {
        let _ = batch()
            .run(|_| async { panic!("by mistake") as Result<(), _> })
            .await;
    }
}
