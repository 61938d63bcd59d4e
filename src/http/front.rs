//! The way of a request to its handler.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::handler::Handler;
use axum::http::{Method, Request};
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower_service::Service;

use super::input::USERS_PATH;
use super::{AppState, users};

/// A router, and a shorter way for pings: nearly every call is one, and the router takes about as long to
/// find the route of a path with a parameter as the handler takes to answer.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    router: Router,
    /// What the handler of pings is given, where no layer of the router has to see them.
    pings: Option<Arc<AppState>>,
}

impl Front {
    /// Sends everything to `router`, but pings, where their handler's state is given, to that.
    pub(super) fn new(router: Router, pings: Option<Arc<AppState>>) -> Self {
        Self { router, pings }
    }

    /// Answers; nothing is done before the future is polled.
    pub(super) fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response> {
        match &self.pings {
            Some(state) if is_ping(&request) => {
                Handler::call(users::ping, request, Arc::clone(state))
            }
            // A router is always ready.
            _ => Box::pin(self.router.clone().call(request).map(into_ok)),
        }
    }
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
