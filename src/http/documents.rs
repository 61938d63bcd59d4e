//! The OpenAPI document.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi, ToSchema};

use super::AppState;
use super::error::Problem;
use crate::events::{
    PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot, UserOffline, UserOnline,
};

/// What the document says beside the operations, which their handlers describe.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Presence",
        description = "Who is online, right now.\n\nApps call `connect`, then `ping` every `pingIntervalMs`, then `disconnect`; back ends ask about many users in one call; dashboards hold one stream of `user.online` and `user.offline`.\n\nTimes are RFC 3339 in UTC with milliseconds. Every refusal is a problem document of RFC 9457 whose `type` is stable per cause.",
    ),
    tags(
        (name = "users", description = "One user: come online, stay, leave, look"),
        (name = "online", description = "Many users: look up, list, count"),
        (name = "events", description = "Every change, as server-sent events"),
        (name = "operations", description = "Health, metrics"),
    ),
    components(schemas(Problem, ListedUserId, UserOnline, UserOffline, PresenceSnapshot, PresenceReady, PresenceReset, PresenceEnd)),
    modifiers(&Security)
)]
pub(super) struct ApiDocument;

/// The app's own name for a person: 1 to 128 bytes of UTF-8 without control characters.
#[derive(Debug, ToSchema)]
#[schema(as = UserId, min_length = 1, max_length = 128, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$", example = "alice")]
#[allow(dead_code)]
pub(super) struct UserIdText(String);

/// A user id between commas.
#[derive(Debug, ToSchema)]
#[schema(
    min_length = 1,
    max_length = 128,
    pattern = "^[^\\x00-\\x1f\\x7f-\\x9f,]+$",
    example = "alice"
)]
#[allow(dead_code)]
pub(super) struct ListedUserId(String);

/// Whom a call is about.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)]
pub(super) struct UserIdInPath {
    /// 1 to 128 bytes of UTF-8 without control characters, percent-encoded.
    #[param(rename = "userId", value_type = UserIdText, example = "alice")]
    user_id: String,
}

/// How a caller says who it is.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A user's JWT, or the API key of a server or dashboard. Needs nothing where the service runs open, on loopback.",
            ))
            .build();
        let description = "The same, for clients that cannot set a header";
        let query = ApiKeyValue::with_description("access_token", description);
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("accessToken", SecurityScheme::ApiKey(ApiKey::Query(query)));
    }
}

/// The path of the document.
pub(super) const PATH: &str = "/openapi.json";

/// The document itself.
pub(super) fn routes(document: &utoipa::openapi::OpenApi) -> Router<Arc<AppState>> {
    let json: Bytes = document.to_json().unwrap_or_default().into();
    let serve = move || {
        let json = json.clone();
        async move { ([(CONTENT_TYPE, "application/json")], json) }
    };
    Router::new().route(PATH, get(serve))
}
