//! The error responses of the operations in the OpenAPI document.

#![expect(
    dead_code,
    reason = "utoipa reads the types of the fields; the service creates no values"
)]

use utoipa::IntoResponses;

use crate::http::problem::Problem;

/// An id, the cursor, the limit, the query or the body is invalid. `detail` names the field.
#[derive(IntoResponses)]
#[response(status = 400, content_type = "application/problem+json")]
pub(crate) struct BadRequest(Problem);

/// The `Host` header is missing, repeated or invalid.
#[derive(IntoResponses)]
#[response(status = 400, content_type = "application/problem+json")]
pub(crate) struct BadHost(Problem);

/// The request has no token or API key, or an invalid one. `detail` states the cause.
#[derive(IntoResponses)]
#[response(
    status = 401,
    content_type = "application/problem+json",
    headers(("WWW-Authenticate" = String, description = "`Bearer`, with an error code of RFC 6750 if the request has a credential"))
)]
pub(crate) struct Unauthorized(Problem);

/// The token or API key is valid, but does not permit this call.
#[derive(IntoResponses)]
#[response(status = 403, content_type = "application/problem+json")]
pub(crate) struct Forbidden(Problem);

/// The service runs on a platform that carries no event streams.
#[derive(IntoResponses)]
#[response(status = 406, content_type = "application/problem+json")]
pub(crate) struct NoStreams(Problem);

/// `too-many-connections`: the user has reached the limit of open connections.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
pub(crate) struct ConnectRefused(Problem);

/// `connection-closed`: the connection was disconnected, and ended less than 10 s ago or ends later (`graceMs`).
/// `connect` opens it again.
/// `too-many-connections`: the user has reached the limit of open connections.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
pub(crate) struct PingRefused(Problem);

/// The user exceeded the rate limit, or too many streams are open. Try again after `Retry-After` seconds.
#[derive(IntoResponses)]
#[response(
    status = 429,
    content_type = "application/problem+json",
    headers(("Retry-After" = u32, description = "Seconds"))
)]
pub(crate) struct TooMany(Problem);

/// The body exceeds 64 KiB, or 1 MiB for a list of ids.
#[derive(IntoResponses)]
#[response(status = 413, content_type = "application/problem+json")]
pub(crate) struct BodyTooLarge(Problem);

/// The body did not arrive within 10 s.
#[derive(IntoResponses)]
#[response(status = 408, content_type = "application/problem+json")]
pub(crate) struct BodyTimeout(Problem);

/// The head of the request is larger than 16 KiB. `POST /v1/events` accepts a long list of ids in the body.
#[derive(IntoResponses)]
#[response(status = 431, content_type = "application/problem+json")]
pub(crate) struct HeadTooLarge(Problem);

/// The `Content-Type` of the body is not JSON.
#[derive(IntoResponses)]
#[response(status = 415, content_type = "application/problem+json")]
pub(crate) struct UnsupportedMediaType(Problem);

/// The store is unreachable. Try again after `Retry-After` seconds.
#[derive(IntoResponses)]
#[response(
    status = 503,
    content_type = "application/problem+json",
    headers(("Retry-After" = u32, description = "Seconds"))
)]
pub(crate) struct StoreUnreachable(Problem);
