//! For those who operate the service.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{PartialSchema, ToSchema};

use super::error::{BadHost, Error, Forbidden, StoreUnreachable, TooMany, Unauthorized};
use super::json_line::JsonLine;
use super::permissions::SeeingMetrics;
use super::state::AppState;

/// What the metrics are written in.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `alive` from `/livez`, `ready` from `/readyz`.
    #[schema(schema_with = Status::schema)]
    status: Status,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Alive,
    Ready,
}

/// Is the process alive?
///
/// Does not look at the store: a restart would not mend that.
#[utoipa::path(
    get, path = "/livez", tag = "operations", operation_id = "checkLive",
    security(()),
    responses(
        (status = 200, body = Health, description = "It lives", example = json!({"status": "alive"})),
        BadHost,
    )
)]
pub(super) async fn livez() -> JsonLine<Health> {
    JsonLine(Health {
        status: Status::Alive,
    })
}

/// Can it serve?
///
/// Asks the store, and whether the streams hear of events.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "checkReady",
    security(()),
    responses(
        (status = 200, body = Health, description = "The store answers", example = json!({"status": "ready"})),
        BadHost,
        StoreUnreachable,
    )
)]
pub(super) async fn readyz(State(state): State<Arc<AppState>>) -> Result<JsonLine<Health>, Error> {
    state.presence.ready().await?;
    state.streams.check_ready()?;
    Ok(JsonLine(Health {
        status: Status::Ready,
    }))
}

/// What it counts
///
/// In the OpenMetrics text format, for Prometheus. Open where the service listens on loopback only;
/// elsewhere it takes the scope `presence.read`, unless `PRESENCE_METRICS_LISTEN` serves it apart.
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

/// The metrics, for whoever reaches the listener that is theirs alone.
pub(super) async fn open_metrics(State(state): State<Arc<AppState>>) -> Result<Response, Error> {
    let text = state
        .metrics
        .render()
        .map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
