//! The OpenAPI document.

mod examples;
pub(super) mod responses;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{OpenApi as OpenApiDocument, RefOr, Required};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, ToSchema};

use self::responses::{
    BadRequest, BodyTimeout, BodyTooLarge, Forbidden, HeadTooLarge, StoreUnreachable, TooMany,
    Unauthorized,
};
use super::problem::{Problem, ProblemType};
use super::split_body::split_large_body;
use super::state::AppState;
use crate::events::{
    GroupJoined, GroupLeft, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot,
    UserOffline, UserOnline, UserUpdated,
};

/// The operations with an optional body.
const OPTIONAL_BODIES: [&str; 3] = ["connect", "ping", "disconnect"];

/// The document without the operations. The handlers describe the operations.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Presence",
        description = "Shows which users are online.",
        contact(name = "The operators of this service"),
        license(name = "MIT", identifier = "MIT"),
    ),
    servers((url = "/", description = "The service that serves this document")),
    tags(
        (name = "users", description = "One user: connect, ping, disconnect, state"),
        (name = "online", description = "Many users: look up, list, count"),
        (name = "groups", description = "Groups of users: members, and which of them are online"),
        (name = "events", description = "Changes, as Server-Sent Events"),
        (name = "operations", description = "Health, metrics, the state of the service, and the sweep"),
    ),
    components(schemas(Problem, ListedUserId, ListedGroupId, UserOnline, UserUpdated, UserOffline, GroupJoined, GroupLeft, PresenceSnapshot, PresenceReady, PresenceReset, PresenceEnd)),
    modifiers(&Description, &Security)
)]
pub(super) struct ApiDocument;

/// A user id of the application: 1 to 128 bytes of UTF-8 without control characters.
#[derive(Debug, ToSchema)]
#[schema(as = UserId, min_length = 1, max_length = 128, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$", example = "alice")]
#[expect(dead_code, reason = "utoipa reads the type of the field")]
pub(super) struct UserIdText(String);

/// A user id in a list that is separated by commas.
#[derive(Debug, ToSchema)]
#[schema(
    min_length = 1,
    max_length = 128,
    pattern = "^[^\\x00-\\x1f\\x7f-\\x9f,]+$",
    example = "alice"
)]
#[expect(dead_code, reason = "utoipa reads the type of the field")]
pub(super) struct ListedUserId(String);

/// A group id in a list that is separated by commas.
#[derive(Debug, ToSchema)]
#[schema(
    min_length = 1,
    max_length = 128,
    pattern = "^[^\\x00-\\x1f\\x7f-\\x9f,]+$",
    example = "team-7"
)]
#[expect(dead_code, reason = "utoipa reads the type of the field")]
pub(super) struct ListedGroupId(String);

/// The user id in the path of a call.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "utoipa reads the type of the field")]
pub(super) struct UserIdInPath {
    /// The user id: 1 to 128 bytes of UTF-8 without control characters, percent-encoded.
    #[param(rename = "userId", value_type = UserIdText, example = "alice")]
    user_id: String,
}

/// The group id in the path of a call.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "utoipa reads the type of the field")]
pub(super) struct GroupIdInPath {
    /// The group id: 1 to 128 bytes of UTF-8 without control characters, percent-encoded.
    #[param(rename = "groupId", value_type = GroupIdText, example = "team-7")]
    group_id: String,
}

/// A group id of the application: 1 to 128 bytes of UTF-8 without control characters.
#[derive(Debug, ToSchema)]
#[schema(as = GroupId, min_length = 1, max_length = 128, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$", example = "team-7")]
#[expect(dead_code, reason = "utoipa reads the type of the field")]
pub(super) struct GroupIdText(String);

/// Sets the description of the document.
struct Description;

impl Modify for Description {
    fn modify(&self, document: &mut OpenApiDocument) {
        let text = format!(
            "Shows which users are online.\n\n\
             An app calls `connect`, then `ping` every `pingIntervalMs`, then `disconnect`. A back end looks up many \
             users with one call. A dashboard opens a stream of the events `user.online`, `user.updated` and \
             `user.offline`.\n\n\
             Times have the format of RFC 3339, in UTC with milliseconds. A call with an unknown query parameter or \
             an unknown field in the body is refused.\n\n\
             ## Problems\n\n\
             The body of every error response is a problem document (RFC 9457). Its `type` never changes.\n\n\
             <details>\n<summary>All types of problems</summary>\n\n{}\n</details>\n",
            ProblemType::table()
        );
        document.info.description = Some(text);
    }
}

/// Adds the security schemes: the places of a credential in a request.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut OpenApiDocument) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "The JWT of a user, or the API key of a server or dashboard. In open mode no credential is needed.",
            ))
            .build();
        let description = "Only for `/v1/events`: the same token or API key, for clients that cannot send a header, \
             such as the `EventSource` of a browser.";
        let query = ApiKeyValue::with_description("access_token", description);
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        // The page of the documentation sorts the schemes by name. This scheme has to be the second.
        components.add_security_scheme("eventsQuery", SecurityScheme::ApiKey(ApiKey::Query(query)));
    }
}

/// Adds the parts of the operations for which the macro of the handlers has no attribute.
pub(super) fn finish(document: &mut OpenApiDocument) {
    for (path, item) in &mut document.paths.paths {
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.put,
            &mut item.patch,
            &mut item.delete,
        ];
        let operations = operations.map(Option::as_mut);
        for operation in operations.into_iter().flatten() {
            add_common_responses(path, operation);
            examples::add_problems(operation);
            let name = operation.operation_id.as_deref().unwrap_or_default();
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                let is_optional = OPTIONAL_BODIES.contains(&name);
                body.required = Some(if is_optional {
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

/// Adds the responses that do not depend on the handler. Every call under `/v1` reads its body, also to refuse it,
/// checks the caller and asks the store.
fn add_common_responses(path: &str, operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    responses.extend(HeadTooLarge::responses());
    if path.starts_with("/v1/") {
        responses.extend(BodyTimeout::responses());
        responses.extend(BodyTooLarge::responses());
        responses.extend(BadRequest::responses());
        responses.extend(Unauthorized::responses());
        responses.extend(Forbidden::responses());
        responses.extend(TooMany::responses());
        responses.extend(StoreUnreachable::responses());
    }
}

/// The path of the document.
const PATH: &str = "/openapi.json";

/// The route of the document.
pub(super) fn routes(document: &OpenApiDocument) -> Router<Arc<AppState>> {
    let json = document.to_json().unwrap_or_default() + "\n";
    let json = Bytes::from(json);
    let serve = move || {
        let json = json.clone();
        async move { split_large_body(([(CONTENT_TYPE, "application/json")], json).into_response()) }
    };
    Router::new().route(PATH, get(serve))
}
