//! Calls for operators: liveness, readiness and metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{PartialSchema, ToSchema};

use super::error::Error;
use super::json_line::JsonLine;
use super::openapi::responses::{BadHost, Forbidden, StoreUnreachable, TooMany, Unauthorized};
use super::permissions::SeeingMetrics;
use super::state::AppState;
use crate::store::Readiness;

/// The media type of the metrics.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The result of a health check.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `alive` for `/livez`, `ready` for `/readyz`.
    #[schema(schema_with = Status::schema)]
    status: Status,
    /// Why the store serves only a part of the users, or how far a move to another store is. Absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The status of a healthy service.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Alive,
    Ready,
}

/// Check liveness
///
/// Succeeds while the process answers requests. The store is not checked, because a restart would not repair it.
#[utoipa::path(
    get, path = "/livez", tag = "operations", operation_id = "checkLive",
    security(()),
    responses(
        (status = 200, body = Health, description = "The process is alive", example = json!({"status": "alive"})),
        BadHost,
    )
)]
pub(super) async fn livez() -> JsonLine<Health> {
    JsonLine(Health {
        status: Status::Alive,
        reason: None,
    })
}

/// Check readiness
///
/// Succeeds if the store answers and the streams receive events. The `detail` of a failure is its cause. The `reason`
/// of a success tells why the store serves only a part of the users, or how far a move to another store is.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "checkReady",
    security(()),
    responses(
        (status = 200, body = Health, description = "The service is ready", example = json!({"status": "ready"})),
        BadHost,
        StoreUnreachable,
    )
)]
pub(super) async fn readyz(State(state): State<Arc<AppState>>) -> Result<JsonLine<Health>, Error> {
    let reason = match state.presence.readiness().await {
        Readiness::Ready => None,
        Readiness::Degraded(reason) => Some(reason),
        Readiness::NotReady(cause) => return Err(Error::NotReady(cause)),
    };
    let streams = state.streams.check_ready();
    streams.map_err(|error| Error::NotReady(error.cause()))?;
    Ok(JsonLine(Health {
        status: Status::Ready,
        reason,
    }))
}

/// Get the metrics
///
/// Returns the metrics in the OpenMetrics text format, for Prometheus. If the service listens on loopback only, the
/// call needs no credential. Otherwise it needs an API key with the scope `presence.read`. The separate listener of
/// `PRESENCE_METRICS_LISTEN` needs no credential.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "getMetrics",
    security((), ("bearer" = [])),
    responses(
        (status = 200, content_type = "application/openmetrics-text", body = String, description = "All metrics", example = "# HELP presence_streams Open streams.\n# TYPE presence_streams gauge\npresence_streams 1\n# EOF\n"),
        BadHost,
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

/// The metrics without a check of the caller, for the separate listener.
pub(super) async fn open_metrics(State(state): State<Arc<AppState>>) -> Result<Response, Error> {
    let text = state
        .metrics
        .render()
        .map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
