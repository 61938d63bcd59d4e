//! The problem documents of RFC 9457: their schema, and the table of their types.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::extensions::{Extensions, ExtensionsBuilder};
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};

/// The prefix of every `type`.
const URN: &str = "urn:presence:problem:";

/// A problem document (RFC 9457): why a request was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// The cause, for programs: `urn:presence:problem:` and a name. A type never changes.
    #[serde(rename = "type")]
    #[schema(schema_with = type_schema)]
    kind: String,
    /// The cause, for people. Equal for all problems of a type.
    title: &'static str,
    /// The HTTP status.
    #[schema(schema_with = status_schema)]
    status: u16,
    /// What is wrong with this request, for people. Names the field.
    detail: String,
}

impl Problem {
    /// A document of this type. `detail` describes one request.
    pub(super) fn new(problem_type: ProblemType, detail: String) -> Self {
        Self {
            kind: problem_type.urn(),
            title: problem_type.title(),
            status: problem_type.status().as_u16(),
            detail,
        }
    }
}

fn type_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(
            "The cause, for programs: `urn:presence:problem:` and a name. A type never changes.",
        ))
        .enum_values(Some(ProblemType::ALL.iter().map(|each| each.urn())))
        .extensions(value_names(
            ProblemType::ALL.iter().map(|each| format!("{each:?}")),
        ))
        .build()
}

/// The names of the values of an enum in generated code. Without them, generators use names such as `NUMBER_400`.
fn value_names(names: impl Iterator<Item = String>) -> Option<Extensions> {
    let names: Vec<_> = names.collect();
    Some(
        ExtensionsBuilder::new()
            .add("x-enum-varnames", names)
            .build(),
    )
}

fn status_schema() -> Object {
    let mut statuses: Vec<_> = ProblemType::ALL.iter().map(|each| each.status()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
        .description(Some("The HTTP status."))
        .enum_values(Some(statuses.iter().map(StatusCode::as_u16)))
        .extensions(value_names(statuses.iter().map(|status| {
            let reason = status.canonical_reason().unwrap_or_default();
            reason.replace(' ', "")
        })))
        .build()
}

/// Declares the types: one row each. The comment of a row is its meaning in the documentation.
macro_rules! problem_types {
    ($($(#[doc = $meaning:literal])+ $variant:ident($status:ident, $name:literal, $title:literal),)+) => {
        /// The types of problem documents: the causes that a program can tell apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum ProblemType {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl ProblemType {
            /// All types, in the order of the status.
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The HTTP status.
            pub(super) const fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)+
                }
            }

            /// The name in the `type`. It never changes.
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The cause, for people.
            pub(super) const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)+
                }
            }

            /// The meaning of the type, and what a client can do.
            pub(super) const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning,)+).trim_ascii(),)+
                }
            }
        }
    };
}

problem_types! {
    /// A user id is not 1 to 128 bytes of UTF-8, or contains control characters.
    InvalidUserId(BAD_REQUEST, "invalid-user-id", "Invalid user id"),
    /// The list of user ids is empty.
    NoUserIds(BAD_REQUEST, "no-user-ids", "No user ids"),
    /// The list of user ids exceeds the limit of this call. `detail` states the limit.
    TooManyUserIds(BAD_REQUEST, "too-many-user-ids", "Too many user ids"),
    /// A group id is not 1 to 128 bytes of UTF-8, or contains control characters.
    InvalidGroupId(BAD_REQUEST, "invalid-group-id", "Invalid group id"),
    /// The list of group ids is empty.
    NoGroupIds(BAD_REQUEST, "no-group-ids", "No group ids"),
    /// The list of group ids exceeds the limit of this call. `detail` states the limit.
    TooManyGroupIds(BAD_REQUEST, "too-many-group-ids", "Too many group ids"),
    /// The group would have more members than `PRESENCE_GROUP_MEMBERS`, or a list has more ids. Nothing was changed.
    TooManyMembers(BAD_REQUEST, "too-many-members", "Too many members"),
    /// A user is stored in 1,000 groups, or was until 10 s ago: on Redis, the place of a group that the user left is
    /// free after 10 s at the latest. `detail` names the user. Nothing was changed.
    TooManyGroups(BAD_REQUEST, "too-many-groups", "Too many groups"),
    /// A connection id is not 1 to 64 characters of `A-Z a-z 0-9 . _ ~ : @ -`, or accompanies `all`.
    InvalidConnectionId(BAD_REQUEST, "invalid-connection-id", "Invalid connection id"),
    /// `ttlMs` is out of bounds. `detail` states the bounds.
    InvalidTtl(BAD_REQUEST, "invalid-ttl", "Invalid TTL"),
    /// `graceMs` is out of bounds, or accompanies `all`. `detail` states the bounds.
    InvalidGrace(BAD_REQUEST, "invalid-grace", "Invalid grace period"),
    /// `groups` has more than 10 ids, or an id that is not 1 to 128 bytes of UTF-8 or contains control characters.
    /// `detail` names the id.
    InvalidGroups(BAD_REQUEST, "invalid-groups", "Invalid groups"),
    /// A status is not 1 to 32 characters of `a-z 0-9 -`, its data are not an object of at most 1 KiB, or its `ttlMs`
    /// is out of bounds. `detail` names the field.
    InvalidStatus(BAD_REQUEST, "invalid-status", "Invalid status"),
    /// The body is not a JSON object with the fields and types of this call, or contradicts itself. `detail` names the
    /// field.
    InvalidJson(BAD_REQUEST, "invalid-json", "Invalid JSON"),
    /// A query parameter is unknown, repeated or malformed. `detail` names the parameter.
    InvalidQuery(BAD_REQUEST, "invalid-query", "Invalid query parameter"),
    /// The limit is not a number within the bounds. `detail` states the bounds.
    InvalidLimit(BAD_REQUEST, "invalid-limit", "Invalid limit"),
    /// The cursor is not the `nextCursor` of an earlier page. Start again without a cursor.
    InvalidCursor(BAD_REQUEST, "invalid-cursor", "Invalid cursor"),
    /// The body ended early or is malformed. Send the request again.
    UnreadableBody(BAD_REQUEST, "unreadable-body", "Unreadable body"),
    /// The `Host` header is missing, repeated or invalid.
    InvalidHost(BAD_REQUEST, "invalid-host", "Invalid Host header"),
    /// The client sent something else than a request of HTTP/1 or HTTP/2.
    NotHttp(BAD_REQUEST, "not-http", "Not HTTP"),
    /// The request has no token and no API key.
    NoCredential(UNAUTHORIZED, "no-credential", "No credential"),
    /// The token has expired. Send the request again with a new token.
    TokenExpired(UNAUTHORIZED, "token-expired", "Token expired"),
    /// The token or API key is invalid. A new one of the same kind is refused too until the cause in `detail` is fixed.
    BadCredential(UNAUTHORIZED, "bad-credential", "Bad credential"),
    /// The token or API key is valid, but does not permit this call.
    NotAllowed(FORBIDDEN, "not-allowed", "Not allowed"),
    /// No credential is configured, and the request came through a proxy, from a page of another origin, or with the
    /// host name of another machine.
    OpenModeLocalOnly(FORBIDDEN, "open-mode-local-only", "Open mode serves this machine only"),
    /// The path does not exist.
    NotFound(NOT_FOUND, "not-found", "Not found"),
    /// The path does not support this method. `Allow` lists the supported methods.
    MethodNotAllowed(METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed"),
    /// The service runs on a platform that sends no response before it is complete, such as a buffered AWS Lambda
    /// function.
    StreamsUnsupported(NOT_ACCEPTABLE, "streams-unsupported", "Streams unsupported"),
    /// The body did not arrive within 10 s.
    BodyTimeout(REQUEST_TIMEOUT, "body-timeout", "Body timeout"),
    /// A ping arrived after the disconnect of its connection, or less than 10 s after its end. A client that is still
    /// running calls `connect`.
    ConnectionClosed(CONFLICT, "connection-closed", "Connection closed"),
    /// The user has reached the limit of open connections. Close a connection, or use an open one.
    TooManyConnections(CONFLICT, "too-many-connections", "Too many connections"),
    /// The body exceeds 64 KiB, or 1 MiB for a list of ids.
    BodyTooLarge(PAYLOAD_TOO_LARGE, "body-too-large", "Body too large"),
    /// The `Content-Type` of the body is not JSON.
    UnsupportedMediaType(UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Unsupported media type"),
    /// The user of the token exceeded the rate limit. Try again after `Retry-After` seconds.
    TooManyCalls(TOO_MANY_REQUESTS, "too-many-calls", "Too many calls"),
    /// The limit of open streams is reached. Try again after `Retry-After` seconds.
    TooManyStreams(TOO_MANY_REQUESTS, "too-many-streams", "Too many streams"),
    /// The head of the request is larger than 16 KiB, or has more than 100 fields on HTTP/1. `POST /v1/events` accepts
    /// a long list of ids in the body.
    HeadTooLarge(REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "Head too large"),
    /// The service failed. Its log contains the cause.
    InternalError(INTERNAL_SERVER_ERROR, "internal-error", "Internal error"),
    /// The keys that verify tokens are unreachable. Try again after `Retry-After` seconds.
    KeysUnreachable(SERVICE_UNAVAILABLE, "keys-unreachable", "Keys unreachable"),
    /// Too many new tokens wait for their verification. Try again after `Retry-After` seconds.
    TooManyTokens(SERVICE_UNAVAILABLE, "too-many-tokens", "Too many tokens to verify"),
    /// The store is unreachable. Try again after `Retry-After` seconds.
    StoreUnreachable(SERVICE_UNAVAILABLE, "store-unreachable", "Store unreachable"),
    /// Too many calls wait for the store. Try again after `Retry-After` seconds.
    StoreOverloaded(SERVICE_UNAVAILABLE, "store-overloaded", "Store overloaded"),
    /// This instance has not enough free memory for the call. Try again after `Retry-After` seconds.
    Overloaded(SERVICE_UNAVAILABLE, "overloaded", "Overloaded"),
}

impl ProblemType {
    /// The `type` of the documents.
    pub(super) fn urn(self) -> String {
        format!("{URN}{}", self.name())
    }

    /// A Markdown table of all types, for the OpenAPI document and `docs/problems.md`.
    pub(super) fn table() -> String {
        let mut table = "| Status | `type` | Meaning |\n| --- | --- | --- |\n".to_owned();
        for each in Self::ALL {
            let (status, meaning) = (each.status().as_u16(), each.meaning());
            table.push_str(&format!("| {status} | `{}` | {meaning} |\n", each.urn()));
        }
        table
    }
}
