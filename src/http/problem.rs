//! The problem documents of RFC 9457: their form, and the table of their types.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::extensions::{Extensions, ExtensionsBuilder};
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};

/// What the `type` of each problem begins with; the name follows.
const URN: &str = "urn:presence:problem:";

/// A problem document of RFC 9457: why a call was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// The cause, stable: `urn:presence:problem:` and a name.
    #[serde(rename = "type")]
    #[schema(schema_with = type_schema)]
    kind: String,
    /// The cause in words, the same for every problem of the type.
    title: &'static str,
    /// The HTTP status.
    #[schema(schema_with = status_schema)]
    status: u16,
    /// What is wrong with this request; names the field.
    detail: String,
}

impl Problem {
    /// The document of a problem; `detail` is about one request.
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
            "The cause, stable: `urn:presence:problem:` and a name.",
        ))
        .enum_values(Some(ProblemType::ALL.iter().map(|each| each.urn())))
        .extensions(named(
            ProblemType::ALL.iter().map(|each| format!("{each:?}")),
        ))
        .build()
}

/// How generated code calls the values of an enum; generators would make up names such as `NUMBER_400`.
fn named(names: impl Iterator<Item = String>) -> Option<Extensions> {
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
        .extensions(named(statuses.iter().map(|status| {
            let reason = status.canonical_reason().unwrap_or_default();
            reason.replace(' ', "")
        })))
        .build()
}

/// One row for each type of problem. Its comment is what the table of the documents says about it.
macro_rules! problem_types {
    ($($(#[doc = $meaning:literal])+ $variant:ident($status:ident, $name:literal, $title:literal),)+) => {
        /// Why a call is refused, as far as a program has to tell causes apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum ProblemType {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl ProblemType {
            /// All types, in the order of their statuses.
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The HTTP status.
            pub(super) const fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)+
                }
            }

            /// What its `type` ends with. It never changes.
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The cause in words.
            pub(super) const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)+
                }
            }

            /// What it means, and what the client can do.
            pub(super) const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning,)+).trim_ascii(),)+
                }
            }
        }
    };
}

problem_types! {
    /// A user id is not 1 to 128 bytes of UTF-8, or has control characters.
    InvalidUserId(BAD_REQUEST, "invalid-user-id", "Invalid user id"),
    /// The list of user ids is empty.
    NoUserIds(BAD_REQUEST, "no-user-ids", "No user ids"),
    /// The list of user ids is longer than this call allows; `detail` states the limit.
    TooManyUserIds(BAD_REQUEST, "too-many-user-ids", "Too many user ids"),
    /// A connection id is not 1 to 64 characters from `A-Z a-z 0-9 . _ ~ : @ -`, or is there together with `all`.
    InvalidConnectionId(BAD_REQUEST, "invalid-connection-id", "Invalid connection id"),
    /// The body is not a JSON object of the fields and types that this call takes; `detail` names the field.
    InvalidJson(BAD_REQUEST, "invalid-json", "Invalid JSON"),
    /// A query parameter is unknown, repeated or malformed; `detail` names it.
    InvalidQuery(BAD_REQUEST, "invalid-query", "Invalid query parameter"),
    /// The limit is not a number in the bounds that `detail` states.
    InvalidLimit(BAD_REQUEST, "invalid-limit", "Invalid limit"),
    /// The cursor of a list did not come from an earlier page. Begin again without one.
    InvalidCursor(BAD_REQUEST, "invalid-cursor", "Invalid cursor"),
    /// The body ended early or was malformed. Send the request again.
    UnreadableBody(BAD_REQUEST, "unreadable-body", "Unreadable body"),
    /// The request has several `Host` headers, or one that is no host.
    InvalidHost(BAD_REQUEST, "invalid-host", "Invalid Host header"),
    /// What was sent is no request of HTTP/1 or HTTP/2.
    NotHttp(BAD_REQUEST, "not-http", "Not HTTP"),
    /// The request has no token and no key.
    NoCredential(UNAUTHORIZED, "no-credential", "No credential"),
    /// The token has expired. Get a new one and call again.
    TokenExpired(UNAUTHORIZED, "token-expired", "Token expired"),
    /// The token or key is not valid; a new one of the same kind is refused too until the cause in `detail` is mended.
    BadCredential(UNAUTHORIZED, "bad-credential", "Bad credential"),
    /// The token or key is valid and does not allow this call.
    NotAllowed(FORBIDDEN, "not-allowed", "Not allowed"),
    /// No credential is configured, and the request came through a proxy, from a page of another origin, or under a foreign host name.
    OpenModeLocalOnly(FORBIDDEN, "open-mode-local-only", "Open mode serves this machine only"),
    /// There is nothing at this path.
    NotFound(NOT_FOUND, "not-found", "Not found"),
    /// The path exists, but not for this method; `Allow` lists its methods.
    MethodNotAllowed(METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed"),
    /// The body did not arrive within ten seconds.
    BodyTimeout(REQUEST_TIMEOUT, "body-timeout", "Body timeout"),
    /// A ping came less than 10 s after its connection was closed. A client that is still running calls `connect`.
    ConnectionClosed(CONFLICT, "connection-closed", "Connection closed"),
    /// The user has as many live connections as are allowed. Close one, or use one again.
    TooManyConnections(CONFLICT, "too-many-connections", "Too many connections"),
    /// The body is larger than 64 KiB, or than 1 MiB on a call that takes a list of ids.
    BodyTooLarge(PAYLOAD_TOO_LARGE, "body-too-large", "Body too large"),
    /// The call takes JSON and `Content-Type` is another.
    UnsupportedMediaType(UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Unsupported media type"),
    /// The user of the token called too often. Try again after `Retry-After` seconds.
    TooManyCalls(TOO_MANY_REQUESTS, "too-many-calls", "Too many calls"),
    /// As many streams are open as are allowed. Try again after `Retry-After` seconds.
    TooManyStreams(TOO_MANY_REQUESTS, "too-many-streams", "Too many streams"),
    /// The request line and the header fields are larger than 16 KiB, or more than 100 fields on HTTP/1. `POST /v1/events` takes a long list in its body.
    HeadTooLarge(REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "Head too large"),
    /// The call failed here; the log of the service has the cause.
    InternalError(INTERNAL_SERVER_ERROR, "internal-error", "Internal error"),
    /// The keys that verify tokens are out of reach. Try again after `Retry-After` seconds.
    KeysUnreachable(SERVICE_UNAVAILABLE, "keys-unreachable", "Keys unreachable"),
    /// Too many tokens that were not seen before wait to be verified. Try again after `Retry-After` seconds.
    TooManyTokens(SERVICE_UNAVAILABLE, "too-many-tokens", "Too many tokens to verify"),
    /// The store is out of reach. Try again after `Retry-After` seconds.
    StoreUnreachable(SERVICE_UNAVAILABLE, "store-unreachable", "Store unreachable"),
    /// Too many calls wait for the store. Try again after `Retry-After` seconds.
    StoreOverloaded(SERVICE_UNAVAILABLE, "store-overloaded", "Store overloaded"),
    /// This instance has no memory left for the call. Try again after `Retry-After` seconds.
    Overloaded(SERVICE_UNAVAILABLE, "overloaded", "Overloaded"),
}

impl ProblemType {
    /// The `type` of its documents.
    pub(super) fn urn(self) -> String {
        format!("{URN}{}", self.name())
    }

    /// All types as a table in Markdown, which the document and `docs/problems.md` share.
    pub(super) fn table() -> String {
        let mut table = "| Status | `type` | Meaning |\n| --- | --- | --- |\n".to_owned();
        for each in Self::ALL {
            let (status, meaning) = (each.status().as_u16(), each.meaning());
            table.push_str(&format!("| {status} | `{}` | {meaning} |\n", each.urn()));
        }
        table
    }
}
