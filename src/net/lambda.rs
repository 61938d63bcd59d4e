//! Answers the invocations of an AWS Lambda function.
//!
//! An invocation is a request to the URL of the function, as JSON. It goes through the same [`Front`] as a request of a
//! client connection, so guard, credentials and limits are the same.
//!
//! The process runs only while an invocation is under way: from the response of the runtime API to the next request
//! for an invocation. Therefore the background work that is due is done after each response, before that request.

mod event;
mod response;
mod runtime_api;

use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lambda_runtime_api_client::body::Body as ApiBody;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use self::event::request;
use self::response::{buffered, streamed};
pub(crate) use self::runtime_api::RuntimeApiError;
use self::runtime_api::{Invocation, RuntimeApi};
use super::http1::{BUFFER_BYTES, head_bytes};
use crate::config::{InvokeMode, LambdaConfig};
use crate::http::error::{Error, panicked};
use crate::http::refused_stream::wants_stream;
use crate::http::{Front, StreamSupport};

/// The most header fields of a request, as on HTTP/1 connections.
const MAX_FIELDS: usize = 100;

/// How long before the time-out of the function its streams end, so that their readers get `presence.end`.
const STREAM_END: Duration = Duration::from_secs(5);

/// What is done after each invocation.
pub(crate) type AfterInvocation = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The function that answers invocations.
pub(crate) struct Lambda {
    api: RuntimeApi,
    front: Front,
    mode: InvokeMode,
    after: AfterInvocation,
}

impl Lambda {
    /// Answers invocations with `front`, and calls `after` after each of them. Returns `None` if `config` names no
    /// runtime API.
    pub(crate) fn new(config: &LambdaConfig, front: Front, after: AfterInvocation) -> Option<Self> {
        Some(Self {
            api: RuntimeApi::at(config.runtime_api.clone()?),
            front,
            mode: config.invoke_mode,
            after,
        })
    }

    /// Answers invocations, `concurrency` at once, until the runtime API fails.
    pub(crate) async fn run(self, concurrency: u16) -> RuntimeApiError {
        let lambda = std::sync::Arc::new(self);
        let mut loops = JoinSet::new();
        for _ in 0..concurrency {
            let lambda = std::sync::Arc::clone(&lambda);
            loops.spawn(async move { lambda.answer_all().await });
        }
        match loops.join_next().await {
            Some(Ok(error)) => error,
            _ => RuntimeApiError::Ended,
        }
    }

    async fn answer_all(&self) -> RuntimeApiError {
        loop {
            let invocation = match self.api.next().await {
                Ok(invocation) => invocation,
                Err(error) => return error,
            };
            if let Err(error) = self.answer(&invocation).await {
                // The invocation is lost: its client is gone, or the function timed out. The next one can succeed.
                warn!(%error, "the runtime API did not accept a response");
            }
            (self.after)().await;
        }
    }

    async fn answer(&self, invocation: &Invocation) -> Result<(), RuntimeApiError> {
        let request = match request(&invocation.event) {
            Ok(request) => request,
            Err(error) => {
                debug!(%error, "an invocation is not an HTTP request");
                return self.api.fail(invocation, &error.to_string()).await;
            }
        };
        let response = self.respond(request, invocation.deadline).await;
        match self.mode {
            InvokeMode::Buffered => {
                let body = buffered(response).await;
                self.api.respond(invocation, ApiBody::from(body)).await
            }
            InvokeMode::ResponseStream => self.api.stream(invocation, streamed(response)).await,
        }
    }

    /// The response to `request`, which must end before `deadline`.
    async fn respond(
        &self,
        request: Result<Request<Body>, Error>,
        deadline: Option<SystemTime>,
    ) -> Response {
        let mut request = match request {
            Ok(request) => request,
            Err(error) => return self.front.refusal(error, false),
        };
        let is_too_large =
            head_bytes(&request) > BUFFER_BYTES || request.headers().len() > MAX_FIELDS;
        if is_too_large {
            let wants_stream = wants_stream(request.uri(), request.headers());
            return self.front.refusal(Error::HeadTooLarge, wants_stream);
        }
        if let Some(support) = self.stream_support(deadline) {
            request.extensions_mut().insert(support);
        }
        let response = AssertUnwindSafe(self.front.answer(request)).catch_unwind();
        let response = response.await;
        response.unwrap_or_else(|cause| self.front.refusal(panicked(cause), false))
    }

    fn stream_support(&self, deadline: Option<SystemTime>) -> Option<StreamSupport> {
        if self.mode == InvokeMode::Buffered {
            return Some(StreamSupport::None);
        }
        let left = deadline?.duration_since(SystemTime::now()).ok()?;
        Some(StreamSupport::Until(
            Instant::now() + left.saturating_sub(STREAM_END),
        ))
    }
}

impl std::fmt::Debug for Lambda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Lambda");
        shown.field("mode", &self.mode).finish_non_exhaustive()
    }
}
