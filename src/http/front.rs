//! The entry point of every request: the guard, then the router.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use axum::http::{HeaderValue, Request};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tower_service::Service;
use tracing::Instrument;

use super::error::Error;
use super::guard::Guard;
use super::refused_stream::as_stream;
use super::request_meter::RequestMeter;
use super::response_headers::add_default_headers;
use crate::presence::MoveProgress;
use crate::telemetry::TraceContext;

/// Answers the requests of one listener or worker.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    router: Router,
    /// The router over the next store of a move, which answers once the move has come to it.
    next: Option<(Router, Arc<MoveProgress>)>,
    meter: RequestMeter,
    guard: Guard,
    /// Whether pages of other origins may call.
    is_cors_enabled: bool,
}

impl Front {
    /// Sends every request to `router`.
    pub(crate) fn new(router: Router) -> Self {
        Self {
            router,
            next: None,
            meter: RequestMeter::default(),
            guard: Guard::default(),
            is_cors_enabled: false,
        }
    }

    /// Sends every request to the router of `next` once the move has come to the next store.
    pub(crate) fn with_next(self, next: Self, progress: &Arc<MoveProgress>) -> Self {
        Self {
            next: Some((next.router, Arc::clone(progress))),
            ..self
        }
    }

    /// Counts the requests with `meter`.
    pub(super) fn with_meter(self, meter: RequestMeter) -> Self {
        Self { meter, ..self }
    }

    /// Lets `guard` decide which requests are answered.
    pub(super) fn with_guard(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    /// Lets pages of other origins read the responses of [`Front::refusal`].
    pub(crate) fn with_cors(self, is_cors_enabled: bool) -> Self {
        Self {
            is_cors_enabled,
            ..self
        }
    }

    /// The response to a request that reached no handler, or whose handler panicked. If `wants_stream`, the response to
    /// a temporary error is a short stream. A page of any origin may read the response, because it contains nothing but
    /// the error.
    pub(crate) fn refusal(&self, error: Error, wants_stream: bool) -> Response {
        let response = self.refused(error, wants_stream);
        self.meter.refused(response.status());
        response
    }

    /// The response of [`Front::refusal`], which is not counted here.
    fn refused(&self, error: Error, wants_stream: bool) -> Response {
        let response = as_stream(error.into_response(), wants_stream);
        let mut response = with_default_headers(response);
        if self.is_cors_enabled {
            let any = HeaderValue::from_static("*");
            response
                .headers_mut()
                .insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
        }
        response
    }

    /// Answers `request`. Handlers run only while the future is polled.
    pub(crate) fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response> {
        let metered = self.meter.begin(request.method(), request.uri().path());
        if let Err(error) = self.guard.check(&request) {
            let response = match error {
                Error::Host(_) => self.refused(error, false),
                _ => with_default_headers(error.into_response()),
            };
            metered.answered(response.status());
            return Box::pin(ready(response));
        }
        let trace = TraceContext::of(request.headers());
        let span = trace.map(|trace| trace.request_span(&request));
        let router = match &self.next {
            Some((router, progress)) if progress.has_moved() => router,
            _ => &self.router,
        };
        // A router is always ready.
        let response = router.clone().call(request);
        let response = response.map(move |Ok(response)| {
            metered.answered(response.status());
            with_default_headers(response)
        });
        match span {
            Some(span) => Box::pin(response.instrument(span)),
            None => Box::pin(response),
        }
    }
}

/// `response` with the headers of every response.
fn with_default_headers(mut response: Response) -> Response {
    add_default_headers(response.headers_mut());
    response
}
