//! The OpenAPI document.

mod examples;
pub(super) mod responses;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{OpenApi as OpenApiDocument, RefOr, Required};
use utoipa::{IntoParams, Modify, OpenApi, ToSchema};

use super::problem::{Problem, ProblemType};
use super::split_body::in_parts;
use super::state::AppState;
use crate::events::{
    PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot, UserOffline, UserOnline,
};

/// The operations that can be called without a body.
const BODY_IS_OPTIONAL: [&str; 3] = ["connect", "ping", "disconnect"];

/// What the document says beside the operations, which their handlers describe.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Presence",
        description = "Who is online, right now.",
        contact(name = "The operators of this service"),
        license(name = "MIT", identifier = "MIT"),
    ),
    servers((url = "/", description = "The service that this document comes from")),
    tags(
        (name = "users", description = "One user: come online, stay, leave, look"),
        (name = "online", description = "Many users: look up, list, count"),
        (name = "events", description = "Every change, as server-sent events"),
        (name = "operations", description = "Health, metrics"),
    ),
    components(schemas(Problem, ListedUserId, UserOnline, UserOffline, PresenceSnapshot, PresenceReady, PresenceReset, PresenceEnd)),
    modifiers(&Description, &Security)
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

/// What the document begins with.
struct Description;

impl Modify for Description {
    fn modify(&self, document: &mut OpenApiDocument) {
        let text = format!(
            "Who is online, right now.\n\n\
             Apps call `connect`, then `ping` every `pingIntervalMs`, then `disconnect`; back ends ask about many \
             users in one call; dashboards hold one stream of `user.online` and `user.offline`.\n\n\
             Times are RFC 3339 in UTC with milliseconds. A name that a call does not know, in the query or in the \
             body, is refused.\n\n\
             ## Problems\n\n\
             Every refusal is a problem document of RFC 9457, whose `type` is stable.\n\n\
             <details>\n<summary>All types of problems</summary>\n\n{}\n</details>\n",
            ProblemType::table()
        );
        document.info.description = Some(text);
    }
}

/// How a caller says who it is.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut OpenApiDocument) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A user's JWT, or the API key of a server or dashboard. Needs nothing where the service runs open, on loopback.",
            ))
            .build();
        let description = "Only for `/v1/events`: the same token or key, for clients that cannot send a header, \
             such as a browser's `EventSource`.";
        let query = ApiKeyValue::with_description("access_token", description);
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        // The page shows them in the order of their names, and this one is second.
        components.add_security_scheme("eventsQuery", SecurityScheme::ApiKey(ApiKey::Query(query)));
    }
}

/// Adds to the described operations what their macro cannot say.
pub(super) fn finish(document: &mut OpenApiDocument) {
    for item in document.paths.paths.values_mut() {
        let operations = [item.get.as_mut(), item.post.as_mut()];
        for operation in operations.into_iter().flatten() {
            examples::add_problems(operation);
            let name = operation.operation_id.as_deref().unwrap_or_default();
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                let optional = BODY_IS_OPTIONAL.contains(&name);
                body.required = Some(if optional {
                    Required::False
                } else {
                    Required::True
                });
            }
            if operation.security.as_deref() == Some(&[SecurityRequirement::default()]) {
                operation.security = Some(Vec::new());
            }
        }
    }
}

/// The path of the document.
const PATH: &str = "/openapi.json";

/// The document itself.
pub(super) fn routes(document: &OpenApiDocument) -> Router<Arc<AppState>> {
    let json = document.to_json().unwrap_or_default() + "\n";
    let json = Bytes::from(json);
    let serve = move || {
        let json = json.clone();
        async move { in_parts(([(CONTENT_TYPE, "application/json")], json).into_response()) }
    };
    Router::new().route(PATH, get(serve))
}
