//! HTTP: the route table, and what the handlers share.

mod admission;
mod bulk;
mod cors;
mod docs;
pub(crate) mod error;
mod events;
mod extract;
mod front;
mod guard;
mod health;
mod json_line;
mod online;
mod openapi;
mod parts;
mod permissions;
mod problem;
mod query;
mod refused_stream;
mod response_headers;
mod state;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::get;
use tower_http::trace::TraceLayer;
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

pub(crate) use self::admission::Admission;
pub(crate) use self::bulk::Batch;
use self::error::{method_not_allowed, not_found};
pub(crate) use self::front::Front;
use self::guard::Guard;
use self::openapi::ApiDocument;
pub use self::state::AppState;
use crate::config::{Config, Switch};
use crate::telemetry::{is_request_span_enabled, request_span};

/// All routes of the service, once for each of `states`.
pub(crate) fn fronts(config: &Config, states: impl Iterator<Item = AppState>) -> Vec<Front> {
    let (api, document) = api().split_for_parts();
    let mut all = api.merge(openapi::routes(&document));
    if config.http.docs == Switch::On {
        all = all.merge(docs::routes());
    }
    all = all
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    let mut are_pings_seen = false;
    if let Some(origins) = &config.http.cors_origins {
        all = all.layer(cors::layer(origins));
        are_pings_seen = true;
    }
    if is_request_span_enabled() {
        let spans = TraceLayer::new_for_http().make_span_with(request_span);
        all = all.layer(spans.on_request(()).on_failure(()));
        are_pings_seen = true;
    }
    let guard = Guard::new(config);
    let front = |state| {
        let state = Arc::new(state);
        let pings = (!are_pings_seen).then(|| Arc::clone(&state));
        Front::new(all.clone().with_state(state), pings)
            .guarded(guard.clone())
            .for_pages(config.http.cors_origins.is_some())
    };
    states.map(front).collect()
}

/// The metrics alone, for a listener that only those reach who may see them.
pub(crate) fn metrics_front(state: AppState) -> Front {
    let router = Router::new()
        .route("/metrics", get(health::open_metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(state));
    Front::new(router, None)
}

/// The OpenAPI document of the service, as pretty JSON.
pub fn openapi() -> String {
    let mut json = api().to_openapi().to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
}

fn api() -> OpenApiRouter<Arc<AppState>> {
    let mut api = OpenApiRouter::with_openapi(ApiDocument::openapi())
        .routes(routes!(users::connect))
        .routes(routes!(users::ping))
        .routes(routes!(users::disconnect))
        .routes(routes!(users::user))
        .routes(routes!(online::among, online::page))
        .routes(routes!(online::count))
        .routes(
            routes!(events::stream, events::stream_of)
                .layer(from_fn(refused_stream::refuse_by_stream)),
        )
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics));
    openapi::finish(api.get_openapi_mut());
    api
}
