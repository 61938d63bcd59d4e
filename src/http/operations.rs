//! Calls for operators: liveness, readiness and metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::{PartialSchema, ToSchema};

use super::error::Error;
use super::json_line::JsonLine;
use super::media_type::weight;
use super::openapi::responses::{BadHost, Forbidden, StoreUnreachable, TooMany, Unauthorized};
use super::permissions::SeeingMetrics;
use super::state::AppState;
use crate::store::Readiness;
use crate::telemetry::MetricsFormat;

/// The media types of the metrics, without and with their parameters.
const OPENMETRICS: (&str, &str) = (
    "application/openmetrics-text",
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
);
const CLASSIC: (&str, &str) = ("text/plain", "text/plain; version=0.0.4; charset=utf-8");

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
        Readiness::ReadyWithReason(reason) => Some(reason),
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
/// Returns the metrics for Prometheus: in the OpenMetrics text format if `Accept` names it, otherwise in the classic
/// text format. If the service listens on loopback only, the call needs no credential. Otherwise it needs an API key
/// with the scope `presence.read`. The separate listener of `PRESENCE_METRICS_LISTEN` needs no credential.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "getMetrics",
    security((), ("bearer" = [])),
    responses(
        (status = 200, description = "All metrics", content(
            (String = "text/plain", example = "# HELP presence_streams Open streams.\n# TYPE presence_streams gauge\npresence_streams 1\n"),
            (String = "application/openmetrics-text", example = "# HELP presence_streams Open streams.\n# TYPE presence_streams gauge\npresence_streams 1\n# EOF\n"),
        )),
        BadHost,
        Unauthorized,
        Forbidden,
        TooMany,
    )
)]
pub(super) async fn metrics(
    _: SeeingMetrics,
    state: State<Arc<AppState>>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    open_metrics(state, headers).await
}

/// The metrics without a check of the caller, for the separate listener.
pub(super) async fn open_metrics(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let (format, media_type) = format_for(&headers);
    // It reads files of the system.
    let rendered = spawn_blocking(move || state.metrics.render(format)).await;
    let rendered = rendered.map_err(|error| Error::Internal(error.to_string()))?;
    let text = rendered.map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, media_type), (VARY, "accept")], text).into_response())
}

/// The format that the client prefers, and its media type.
fn format_for(headers: &HeaderMap) -> (MetricsFormat, &'static str) {
    let openmetrics = weight(headers, OPENMETRICS.0);
    if openmetrics > 0.0 && openmetrics >= weight(headers, CLASSIC.0) {
        (MetricsFormat::OpenMetrics, OPENMETRICS.1)
    } else {
        (MetricsFormat::Classic, CLASSIC.1)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::ACCEPT;

    use super::*;

    #[test]
    fn the_format_of_the_metrics_is_the_one_with_the_greater_weight() {
        let format = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a header"));
            format_for(&headers).0
        };
        // What Prometheus 2 and 3 send.
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let classic_first =
            "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5";
        assert_eq!(format(prometheus), MetricsFormat::OpenMetrics);
        assert_eq!(
            format("application/openmetrics-text"),
            MetricsFormat::OpenMetrics
        );
        assert_eq!(format(classic_first), MetricsFormat::Classic);
        for classic in [
            "text/plain",
            "*/*",
            "application/json",
            "application/openmetrics-text;q=0",
        ] {
            assert_eq!(format(classic), MetricsFormat::Classic, "{classic}");
        }
        assert_eq!(format_for(&HeaderMap::new()).0, MetricsFormat::Classic);
    }
}
