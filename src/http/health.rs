//! For those who operate the service.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::SeeingMetrics;
use super::error::{Error, Forbidden, StoreUnreachable, TooMany, Unauthorized};
use super::json_line::JsonLine;

/// What the metrics are written in.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `alive` or `ready`.
    #[schema(example = "ready")]
    status: &'static str,
}

/// Is the process alive?
///
/// Does not look at the store: a restart would not mend that.
#[utoipa::path(
    get, path = "/livez", tag = "operations", operation_id = "livez",
    responses((status = 200, body = Health, description = "It lives"))
)]
pub(super) async fn livez() -> JsonLine<Health> {
    JsonLine(Health { status: "alive" })
}

/// Can it serve?
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "readyz",
    responses(
        (status = 200, body = Health, description = "The store answers"),
        StoreUnreachable,
    )
)]
pub(super) async fn readyz(State(state): State<Arc<AppState>>) -> Result<JsonLine<Health>, Error> {
    state.presence.ready().await?;
    state.streams.ready()?;
    Ok(JsonLine(Health { status: "ready" }))
}

/// What it counts
///
/// In the OpenMetrics text format, for Prometheus. Open where the service listens on loopback only;
/// elsewhere it takes the scope `presence.read`, unless `PRESENCE_METRICS_LISTEN` serves it apart.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "metrics",
    security((), ("bearer" = [])),
    responses(
        (status = 200, content_type = "application/openmetrics-text", body = String, description = "All metrics"),
        Unauthorized,
        Forbidden,
        TooMany,
    )
)]
pub(super) async fn metrics(
    _: SeeingMetrics,
    state: State<Arc<AppState>>,
) -> Result<Response, Error> {
    open_metrics(state).await
}

/// The metrics, for whoever reaches the listener that is theirs alone.
pub(super) async fn open_metrics(State(state): State<Arc<AppState>>) -> Result<Response, Error> {
    let text = state
        .metrics
        .render()
        .map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
