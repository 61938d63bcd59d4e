//! The refusals of the operations, as the document describes them.

use utoipa::IntoResponses;

use crate::http::problem::Problem;

/// An id, the cursor, the limit, the query or the body is not valid; `detail` names what is wrong.
#[derive(IntoResponses)]
#[response(status = 400, content_type = "application/problem+json")]
pub(in crate::http) struct BadRequest(#[allow(dead_code)] Problem);

/// The `Host` header is missing, is there more than once, or is no host.
#[derive(IntoResponses)]
#[response(status = 400, content_type = "application/problem+json")]
pub(in crate::http) struct BadHost(#[allow(dead_code)] Problem);

/// No token or key came with the call, or it is not valid; `detail` says which.
#[derive(IntoResponses)]
#[response(
    status = 401,
    content_type = "application/problem+json",
    headers(("WWW-Authenticate" = String, description = "`Bearer`, with an error code of RFC 6750 where a credential came"))
)]
pub(in crate::http) struct Unauthorized(#[allow(dead_code)] Problem);

/// The token or key is valid and does not allow this.
#[derive(IntoResponses)]
#[response(status = 403, content_type = "application/problem+json")]
pub(in crate::http) struct Forbidden(#[allow(dead_code)] Problem);

/// `too-many-connections`: the user has as many live connections as are allowed.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
pub(in crate::http) struct ConnectRefused(#[allow(dead_code)] Problem);

/// `connection-closed`: the connection was closed less than 10 s ago, and `connect` opens it again.
/// `too-many-connections`: the user has as many live connections as are allowed.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
pub(in crate::http) struct PingRefused(#[allow(dead_code)] Problem);

/// The user called too often, or too many streams are open; try again after as many seconds as
/// `Retry-After` says.
#[derive(IntoResponses)]
#[response(
    status = 429,
    content_type = "application/problem+json",
    headers(("Retry-After" = u32, description = "Seconds"))
)]
pub(in crate::http) struct TooMany(#[allow(dead_code)] Problem);

/// The body is over 64 KiB, or over 1 MiB where ids are listed.
#[derive(IntoResponses)]
#[response(status = 413, content_type = "application/problem+json")]
pub(in crate::http) struct BodyTooLarge(#[allow(dead_code)] Problem);

/// The body did not arrive within ten seconds.
#[derive(IntoResponses)]
#[response(status = 408, content_type = "application/problem+json")]
pub(in crate::http) struct BodyTimeout(#[allow(dead_code)] Problem);

/// The request line and the header fields are larger than 16 KiB. `POST /v1/events` takes a long list in its body.
#[derive(IntoResponses)]
#[response(status = 431, content_type = "application/problem+json")]
pub(in crate::http) struct HeadTooLarge(#[allow(dead_code)] Problem);

/// The body was not sent as JSON.
#[derive(IntoResponses)]
#[response(status = 415, content_type = "application/problem+json")]
pub(in crate::http) struct UnsupportedMediaType(#[allow(dead_code)] Problem);

/// The store is out of reach; try again after as many seconds as `Retry-After` says.
#[derive(IntoResponses)]
#[response(
    status = 503,
    content_type = "application/problem+json",
    headers(("Retry-After" = u32, description = "Seconds"))
)]
pub(in crate::http) struct StoreUnreachable(#[allow(dead_code)] Problem);
