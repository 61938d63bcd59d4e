//! Bulk calls run on threads of their own.

use std::panic::resume_unwind;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;
use utoipa_axum::router::OpenApiRouter;

use super::error::Error;
use super::state::AppState;

/// The bulk threads, and the state of the handlers on these threads.
///
/// A bulk call takes as long as twenty pings. On the thread of its connection, the pings of other clients would wait.
#[derive(Clone, Debug)]
pub(crate) struct BulkCalls {
    runtime: Handle,
    state: Arc<AppState>,
}

impl BulkCalls {
    /// Bulk calls run on `runtime` and use `state`.
    pub(crate) fn new(runtime: Handle, state: AppState) -> Self {
        Self {
            runtime,
            state: Arc::new(state),
        }
    }

    /// Runs the handlers and extractors of `routes` on the bulk threads.
    pub(super) fn serve(
        &self,
        routes: OpenApiRouter<Arc<AppState>>,
    ) -> OpenApiRouter<Arc<AppState>> {
        let runtime = self.runtime.clone();
        routes
            .route_layer(from_fn_with_state(runtime, run_on))
            .with_state(Arc::clone(&self.state))
    }
}

/// Runs the rest of the route on `runtime`. The task is cancelled if the client no longer waits for the response. A
/// panic of the task continues in the caller, which answers it.
async fn run_on(State(runtime): State<Handle>, request: Request, next: Next) -> Response {
    let task = runtime.spawn(next.run(request).in_current_span());
    match AbortOnDropHandle::new(task).await {
        Ok(response) => response,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => Error::StoreUnreachable("the bulk threads have ended".to_owned()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;
    use std::thread;
    use std::time::Duration;

    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio::runtime::Builder;
    use tokio::sync::oneshot;
    use tokio::time::timeout;
    use tower_service::Service;

    use super::*;

    async fn call(routes: Router, runtime: Handle) -> Response {
        let mut routes = routes.route_layer(from_fn_with_state(runtime, run_on));
        let response = routes.call(Request::new(Body::empty())).await;
        response.expect("a router does not fail")
    }

    #[tokio::test]
    async fn a_handler_runs_on_a_bulk_thread() {
        let bulk = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bulk")
            .build()
            .expect("a runtime");
        let handler = async || thread::current().name().unwrap_or_default().to_owned();
        let routes = Router::new().route("/", get(handler));
        let response = call(routes, bulk.handle().clone()).await;
        let name = to_bytes(response.into_body(), 100).await;
        assert_eq!(name.expect("a body"), "bulk");
        bulk.shutdown_background();
    }

    #[tokio::test]
    async fn a_call_after_the_end_of_the_bulk_threads_is_refused() {
        let bulk = Builder::new_multi_thread().build().expect("a runtime");
        let handle = bulk.handle().clone();
        bulk.shutdown_background();
        let response = call(Router::new().route("/", get("")), handle).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_cancelled_with_its_request() {
        let (begun, begins) = oneshot::channel();
        let (held, ended) = oneshot::channel::<()>();
        let senders = Arc::new(Mutex::new(Some((begun, held))));
        let handler = async move || {
            let senders = senders.lock().expect("no panic").take();
            let (begun, _held) = senders.expect("one call");
            begun.send(()).expect("the test waits");
            pending::<()>().await;
        };
        let routes = Router::new().route("/", get(handler));
        tokio::select! {
            _ = call(routes, Handle::current()) => unreachable!("the handler waits for ever"),
            begun = begins => begun.expect("the handler runs"),
        }
        let ended = timeout(Duration::from_secs(1), ended).await;
        ended.expect("in time").expect_err("the task is cancelled");
    }

    #[tokio::test]
    #[should_panic(expected = "by mistake")]
    async fn a_panic_continues_in_the_caller() {
        let handler = async || panic!("by mistake") as &'static str;
        call(Router::new().route("/", get(handler)), Handle::current()).await;
    }
}
