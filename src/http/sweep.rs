//! Does on request what the background tasks do, for platforms where no instance stays awake.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::error::Error;
use super::extract::NoBody;
use super::json_line::JsonLine;
use super::permissions::Sweeping;
use super::query::NoQuery;
use super::state::AppState;
use crate::model::Timestamp;
use crate::store::StoreError;
use crate::telemetry::TraceContext;

/// The time limit of the whole call, so that the response comes within 20 s.
const LIMIT: Duration = Duration::from_secs(19);

/// The part of the time limit that the sweeps may take. The rest is for webhooks.
const SWEEP_LIMIT: Duration = Duration::from_secs(9);

/// What a sweep did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SweepResult {
    /// The number of departures that this call announced. Other instances may have announced more meanwhile.
    #[schema(example = 3)]
    announced: usize,
    /// The number of events that this call delivered, summed over the receivers of webhooks.
    #[schema(example = 3)]
    delivered: usize,
    /// When the first held departure can be announced, by a call after this time; `null` if none is held.
    #[schema(required, value_type = Option<String>, format = DateTime, example = json!(null))]
    held_until: Option<Timestamp>,
}

/// Announce what is due and send the webhooks
///
/// Checks every user that is due, sends the pending webhooks, and then responds, within 20 s. Made for the cron of a
/// platform where no instance stays awake between requests.
#[utoipa::path(
    post, path = "/v1/sweep", tag = "operations", operation_id = "sweep",
    security(("bearer" = [])),
    responses(
        (status = 200, body = SweepResult, description = "What the sweep did", example = json!({"announced": 3, "delivered": 3, "heldUntil": null})),
    )
)]
pub(super) async fn sweep(
    _: Sweeping,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    _: NoBody,
) -> Result<JsonLine<SweepResult>, Error> {
    let began = Instant::now();
    let swept = timeout_at(began + SWEEP_LIMIT, state.presence.sweep_all()).await;
    let swept = swept.unwrap_or_else(|_| Err(StoreError::too_slow()))?;
    let delivered = state
        .webhooks
        .deliver_pending(LIMIT - began.elapsed(), TraceContext::of(&headers))
        .await;
    Ok(JsonLine(SweepResult {
        announced: swept.announced,
        delivered,
        held_until: swept.held_until,
    }))
}
