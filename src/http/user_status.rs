//! The status that a user sets for itself.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::error::Error;
use super::extract::{NoBody, ShortJsonBody, WholeNumber};
use super::json_line::JsonLine;
use super::openapi::UserIdInPath;
use super::openapi::responses::UnsupportedMediaType;
use super::permissions::SettingStatus;
use super::query::NoQuery;
use super::state::AppState;
use crate::model::{LastingStatus, Status, Timestamp, UserId};

/// The bounds of the time that a status lasts: a second and 30 days, in milliseconds.
const TTL_MS: (u64, u64) = (1_000, 2_592_000_000);

/// The whole status. A field that is left out has its default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"status": "dnd", "data": {"text": "In a meeting"}, "ttlMs": 3_600_000}))]
pub(super) struct StatusBody {
    /// 1 to 32 characters of `a-z 0-9 -`. The application defines the words.
    #[schema(required, nullable = false, value_type = String, pattern = "^[a-z0-9-]{1,32}$", example = "dnd")]
    status: Option<String>,
    /// An object of at most 1 KiB. Default: none.
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
    /// How long the status lasts, in milliseconds. Default: until it is deleted, or until the last-seen time of the
    /// user is forgotten.
    #[schema(value_type = Option<u64>, minimum = 1_000, maximum = 2_592_000_000_u64, example = 3_600_000)]
    ttl_ms: Option<WholeNumber>,
}

/// The status of a user after the call.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusResult {
    /// The user.
    #[schema(value_type = String, example = "alice")]
    user_id: UserId,
    /// The status; `null` if there is none.
    #[schema(required, example = "dnd")]
    status: Option<String>,
    /// The data of the status; `null` if there is none.
    #[schema(required, value_type = Option<Object>)]
    data: Option<Value>,
    /// When the status ends; `null` if no time is set.
    #[schema(required, value_type = Option<String>, format = DateTime, example = "2026-11-24T09:00:00.123Z")]
    expires_at: Option<Timestamp>,
}

/// The status of a user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserStatus {
    /// The word that the application defines.
    #[schema(example = "dnd")]
    status: String,
    /// The data of the status; `null` if there is none.
    #[schema(required, value_type = Option<Object>)]
    data: Option<Value>,
    /// When the status ends; `null` if no time is set.
    #[schema(required, value_type = Option<String>, format = DateTime, example = "2026-11-24T09:00:00.123Z")]
    expires_at: Option<Timestamp>,
}

impl From<LastingStatus> for UserStatus {
    fn from(kept: LastingStatus) -> Self {
        Self {
            status: kept.status.word,
            data: kept.status.data,
            expires_at: kept.ends_at,
        }
    }
}

/// Set the status of a user
///
/// Replaces the whole status. It can be set while the user is offline; the next `user.online` carries it. A status
/// never changes `lastSeenAt`. The token of a user can change the status of the user ten times a minute, unless
/// `PRESENCE_RATE_LIMIT` is `off`; a refused call is no change.
#[utoipa::path(
    put, path = "/v1/users/{userId}/status", tag = "users", operation_id = "setStatus",
    security(("bearer" = [])),
    params(UserIdInPath),
    request_body = StatusBody,
    responses(
        (status = 200, body = StatusResult, description = "The status is set", example = json!({"userId": "alice", "status": "dnd", "data": {"text": "In a meeting"}, "expiresAt": "2026-11-24T09:00:00.123Z"})),
        UnsupportedMediaType,
    )
)]
pub(super) async fn set(
    permitted: SettingStatus,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    ShortJsonBody(body): ShortJsonBody<StatusBody>,
) -> Result<JsonLine<StatusResult>, Error> {
    let lasts = body.ttl_ms.map(|ttl| ttl.millis_within(TTL_MS)).transpose();
    let lasts = lasts.map_err(|(least, most)| Error::InvalidStatusTtl { least, most })?;
    let status = Status::new(body.status.unwrap_or_default(), body.data);
    let status = status.map_err(Error::InvalidStatus)?;
    permitted.count_change(&state)?;
    let SettingStatus(user, _) = permitted;
    let set = state.presence.set_status(&user, Some(&status), lasts);
    let expires_at = set.await?;
    Ok(JsonLine(StatusResult {
        user_id: user,
        status: Some(status.word),
        data: status.data,
        expires_at,
    }))
}

/// Clear the status of a user
///
/// The call succeeds also if the user has no status.
#[utoipa::path(
    delete, path = "/v1/users/{userId}/status", tag = "users", operation_id = "clearStatus",
    security(("bearer" = [])),
    params(UserIdInPath),
    responses(
        (status = 200, body = StatusResult, description = "The user has no status", example = json!({"userId": "alice", "status": null, "data": null, "expiresAt": null})),
    )
)]
pub(super) async fn clear(
    permitted: SettingStatus,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    _: NoBody,
) -> Result<JsonLine<StatusResult>, Error> {
    permitted.count_change(&state)?;
    let SettingStatus(user, _) = permitted;
    state.presence.set_status(&user, None, None).await?;
    Ok(JsonLine(StatusResult {
        user_id: user,
        status: None,
        data: None,
        expires_at: None,
    }))
}
