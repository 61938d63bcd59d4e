//! A shortcut for pings around the router.
//!
//! Nearly every request is a ping. Matching the path of a ping in the router takes about as long as its handler.
//! Without the shortcut the router answers a ping with the same bytes.

use std::sync::Arc;

use axum::body::Body;
use axum::handler::Handler;
use axum::http::{Method, Request};
use axum::response::Response;
use futures_util::future::BoxFuture;

use super::extract::USERS_PATH;
use super::state::AppState;
use super::users::ping;

/// Calls the handler of pings without the router. Layers of the router do not see these pings.
#[derive(Clone, Debug)]
pub(super) struct PingShortcut(Arc<AppState>);

impl PingShortcut {
    /// The shortcut to the handler with `state`.
    pub(super) fn new(state: Arc<AppState>) -> Self {
        Self(state)
    }

    /// Answers `ping_request`. The response has the default headers.
    pub(super) fn answer(&self, ping_request: Request<Body>) -> BoxFuture<'static, Response> {
        Handler::call(ping, ping_request, Arc::clone(&self.0))
    }
}

/// Whether the router would route `request` to the handler of pings.
pub(super) fn is_ping(request: &Request<Body>) -> bool {
    let rest = request.uri().path().strip_prefix(USERS_PATH);
    let user = rest.and_then(|rest| rest.strip_suffix("/ping"));
    let is_one_segment = |user: &str| !user.as_bytes().contains(&b'/');
    request.method() == Method::POST && user.is_some_and(is_one_segment)
}
