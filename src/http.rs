//! HTTP: the routes of the service.

mod admission;
mod bulk;
mod cors;
mod dashboard;
mod docs;
pub(crate) mod error;
mod error_response;
mod events;
mod extract;
mod front;
mod groups;
mod guard;
mod home;
mod json_line;
mod media_type;
mod online;
mod openapi;
mod operations;
mod page_query;
mod permissions;
mod problem;
mod query;
pub(crate) mod refused_stream;
mod request_meter;
mod response_headers;
mod service_status;
mod split_body;
mod state;
mod statement;
mod stream_handoff;
mod stream_support;
mod sweep;
mod user_status;
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
pub(crate) use self::bulk::BulkCalls;
use self::error::{method_not_allowed, not_found};
pub(crate) use self::front::Front;
use self::guard::Guard;
use self::openapi::ApiDocument;
use self::request_meter::{RequestMeter, RouteTable};
pub(crate) use self::state::AppState;
pub(crate) use self::stream_handoff::StreamHandoff;
pub(crate) use self::stream_support::StreamSupport;
use crate::config::{Config, Switch};
use crate::telemetry::{is_request_span_enabled, request_span};

/// A front with all routes for each of `states`. Bulk calls use the state of `bulk` instead.
pub(crate) fn fronts(
    config: &Config,
    bulk: &BulkCalls,
    states: impl Iterator<Item = AppState>,
) -> Vec<Front> {
    let (router, document) = described(bulk.serve(bulk_calls())).split_for_parts();
    let table = RouteTable::of(document.paths.paths.keys());
    let mut router = router.merge(openapi::routes(&document));
    if config.http.docs == Switch::On {
        router = router.merge(docs::routes());
    }
    if config.has_dashboard() {
        router = router.merge(dashboard::routes());
    }
    router = router
        .merge(home::routes(config))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    if let Some(origins) = &config.http.cors_origins {
        router = router.layer(cors::layer(origins));
    }
    if is_request_span_enabled() {
        let spans = TraceLayer::new_for_http().make_span_with(request_span);
        router = router.layer(spans.on_request(()).on_failure(()));
    }
    let is_cors_enabled = config.http.cors_origins.is_some();
    let guard = Guard::new(config);
    let front = |state: AppState| {
        let meter = RequestMeter::new(&table, &state.metrics);
        Front::new(router.clone().with_state(Arc::new(state)))
            .with_meter(meter)
            .with_guard(guard.clone())
            .with_cors(is_cors_enabled)
    };
    states.map(front).collect()
}

/// A front for the listener of the metrics. `/metrics` needs no credential there.
pub(crate) fn metrics_front(state: AppState) -> Front {
    let paths = ["/metrics", "/livez", "/readyz"].map(str::to_owned);
    let meter = RequestMeter::new(&RouteTable::of(paths.iter()), &state.metrics);
    let router = Router::new()
        .route("/metrics", get(operations::open_metrics))
        .route("/livez", get(operations::livez))
        .route("/readyz", get(operations::readyz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(state));
    Front::new(router).with_meter(meter)
}

/// The OpenAPI document of the service, as pretty JSON.
pub fn openapi() -> String {
    let document = described(bulk_calls()).into_openapi();
    let mut json = document.to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
}

/// The routes in the OpenAPI document, with `bulk_calls` among them.
fn described(bulk_calls: OpenApiRouter<Arc<AppState>>) -> OpenApiRouter<Arc<AppState>> {
    let mut routes = OpenApiRouter::with_openapi(ApiDocument::openapi())
        .routes(routes!(users::connect))
        .routes(routes!(users::ping))
        .routes(routes!(users::disconnect))
        .routes(routes!(users::user))
        .routes(routes!(user_status::set, user_status::clear))
        .merge(bulk_calls)
        .routes(
            routes!(events::stream, events::stream_of)
                .layer(from_fn(refused_stream::refuse_by_stream)),
        )
        .routes(routes!(sweep::sweep))
        .routes(routes!(operations::livez))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics));
    openapi::finish(routes.get_openapi_mut());
    routes
}

fn bulk_calls() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new()
        .routes(routes!(online::lookup, online::list))
        .routes(routes!(online::count))
        .routes(routes!(service_status::status))
        .routes(routes!(
            groups::replace,
            groups::change,
            groups::remove,
            groups::get
        ))
        .routes(routes!(groups::count))
}
