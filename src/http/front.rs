//! The way of a request to its handler.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::handler::Handler;
use axum::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use axum::http::{HeaderValue, Method, Request};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tower_service::Service;

use super::error::Error;
use super::extract::USERS_PATH;
use super::guard::Guard;
use super::state::AppState;
use super::{response_headers, users};

/// A router, and a shorter way for pings: nearly every call is one, and the router takes about as long to
/// find the route of a path with a parameter as the handler takes to answer.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    router: Router,
    /// What the handler of pings is given, where no layer of the router has to see them.
    pings: Option<Arc<AppState>>,
    guard: Guard,
    /// Whether pages of other origins may call.
    is_for_pages: bool,
}

impl Front {
    /// Sends everything to `router`, but pings, where their handler's state is given, to that.
    pub(crate) fn new(router: Router, pings: Option<Arc<AppState>>) -> Self {
        Self {
            router,
            pings,
            guard: Guard::default(),
            is_for_pages: false,
        }
    }

    /// The same, where pages of other origins may call if `is_for_pages`.
    pub(crate) fn for_pages(self, is_for_pages: bool) -> Self {
        Self {
            is_for_pages,
            ..self
        }
    }

    /// The same, where `guard` decides which requests are answered.
    pub(super) fn guarded(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    /// The answer where no handler gave one: to what could not be read as a request, after a panic, or without
    /// memory. A page may read it, whatever its origin: it says nothing else.
    pub(crate) fn refusal(&self, error: Error) -> Response {
        let mut response = error.into_response();
        let every_page = self.is_for_pages.then(|| HeaderValue::from_static("*"));
        let headers = response.headers_mut();
        headers.extend(every_page.map(|value| (ACCESS_CONTROL_ALLOW_ORIGIN, value)));
        response
    }

    /// Answers; no handler is called before the future is polled.
    pub(crate) fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response> {
        if let Err(refused) = self.guard.check(&request) {
            let answer = match refused {
                Error::Host(_) => self.refusal(refused),
                _ => refused.into_response(),
            };
            return Box::pin(ready(answer));
        }
        match &self.pings {
            // What its handler answers has the headers of every response already.
            Some(state) if is_ping(&request) => {
                Handler::call(users::ping, request, Arc::clone(state))
            }
            // A router is always ready.
            _ => Box::pin(self.router.clone().call(request).map(finished)),
        }
    }
}

/// The answer of the router, with the headers that every response has.
fn finished(answer: Result<Response, Infallible>) -> Response {
    let mut response = into_ok(answer);
    response_headers::add_missing(response.headers_mut());
    response
}

fn into_ok(answer: Result<Response, Infallible>) -> Response {
    answer.unwrap_or_else(|never| match never {})
}

/// Whether the router would find the handler of pings.
fn is_ping(request: &Request<Body>) -> bool {
    let rest = request.uri().path().strip_prefix(USERS_PATH);
    let user = rest.and_then(|rest| rest.strip_suffix("/ping"));
    let is_one_segment = |user: &str| !user.as_bytes().contains(&b'/');
    request.method() == Method::POST && user.is_some_and(is_one_segment)
}
