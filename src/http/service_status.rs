//! The state of the service, for operators.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Error;
use super::extract::NoBody;
use super::json_line::JsonLine;
use super::permissions::SeeingService;
use super::query::NoQuery;
use super::state::AppState;
use crate::model::{InstanceReport, Timestamp};

/// The state of the service.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceStatus {
    /// The instances that reported within the last 30 s, the oldest first; at most 1,000. An instance reports every 10
    /// s.
    instances: Vec<InstanceStatus>,
    /// The number of online users.
    #[schema(example = 2)]
    online: u64,
    /// The sweeps of all instances.
    sweep: SweepStatus,
    /// The part of the past for which the service has the events.
    history: HistoryStatus,
    /// The number of partitions of the users.
    #[schema(example = 1, minimum = 1)]
    partitions: usize,
}

/// An instance.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct InstanceStatus {
    /// The id of the instance. Each start of the program has another one.
    #[schema(example = "5f0c3a9be1d24788")]
    id: String,
    /// The version of the program.
    #[schema(example = "0.1.0")]
    version: String,
    /// When the instance started.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:00:00.123Z")]
    started_at: Timestamp,
    /// The open event streams of the instance.
    #[schema(example = 1)]
    streams: u64,
    /// The open client connections of the instance.
    #[schema(example = 2)]
    connections: u64,
    /// When the instance last swept with success, or sent a beat while nothing happened; `null` before its first sweep.
    #[schema(required, value_type = Option<String>, format = DateTime, example = "2026-11-24T08:00:10.456Z")]
    last_sweep_at: Option<Timestamp>,
}

/// The state of the sweeps of all instances.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SweepStatus {
    /// When the last sweep took place. With several partitions, this is the time of the partition whose last sweep was
    /// the longest time ago. `null` if a partition was never swept.
    #[schema(required, value_type = Option<String>, format = DateTime, example = "2026-11-24T08:00:10.456Z")]
    last_at: Option<Timestamp>,
    /// When the first departure that is held after an outage can be announced; `null` if none is held.
    #[schema(required, value_type = Option<String>, format = DateTime, example = json!(null))]
    grace_until: Option<Timestamp>,
}

/// The part of the past for which the service has the events.
#[derive(Debug, Serialize, ToSchema)]
struct HistoryStatus {
    /// The time of the oldest event; `null` if the history is empty.
    #[schema(required, value_type = Option<String>, format = DateTime, example = "2026-11-24T08:00:00.123Z")]
    oldest: Option<Timestamp>,
    /// The time of the newest event; `null` if the history is empty.
    #[schema(required, value_type = Option<String>, format = DateTime, example = "2026-11-24T08:01:10.456Z")]
    newest: Option<Timestamp>,
}

impl From<InstanceReport> for InstanceStatus {
    fn from(report: InstanceReport) -> Self {
        Self {
            id: report.id,
            version: report.version,
            started_at: report.started_at,
            streams: report.streams,
            connections: report.connections,
            last_sweep_at: report.swept_at,
        }
    }
}

/// Get the state of the service
///
/// Returns the instances, the number of online users, and the state of the sweeps and of the history. The numbers of
/// the instance that answers are those of now; the numbers of the others are at most 10 s old. Needs an API key with
/// the scope `presence.read`.
#[utoipa::path(
    get, path = "/v1/status", tag = "operations", operation_id = "getStatus",
    security(("bearer" = [])),
    responses(
        (status = 200, body = ServiceStatus, description = "The state of the service", example = json!({
            "instances": [{"id": "5f0c3a9be1d24788", "version": "0.1.0", "startedAt": "2026-11-24T08:00:00.123Z", "streams": 1, "connections": 2, "lastSweepAt": "2026-11-24T08:00:10.456Z"}],
            "online": 2,
            "sweep": {"lastAt": "2026-11-24T08:00:10.456Z", "graceUntil": null},
            "history": {"oldest": "2026-11-24T08:00:00.123Z", "newest": "2026-11-24T08:01:10.456Z"},
            "partitions": 1,
        })),
    )
)]
pub(super) async fn status(
    _: SeeingService,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    _: NoBody,
) -> Result<JsonLine<ServiceStatus>, Error> {
    let overview = state.registration.overview();
    let ((instances, store), online) = tokio::try_join!(overview, state.presence.count())?;
    Ok(JsonLine(ServiceStatus {
        instances: instances.into_iter().map(InstanceStatus::from).collect(),
        online,
        sweep: SweepStatus {
            last_at: store.swept_at,
            grace_until: store.held_until,
        },
        history: HistoryStatus {
            oldest: store.oldest,
            newest: store.newest,
        },
        partitions: state.presence.partitions().count(),
    }))
}
