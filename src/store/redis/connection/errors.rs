//! What a failure that the client library reports means to us.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// Whether another connection is needed: this one is gone, mute, out of step or not accepted any
/// more, or leads to a demoted primary.
pub(super) fn breaks_the_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => true,
        _ => error.code() == Some("NOAUTH") || is_protocol_error(error),
    }
}

/// A refusal that no retry mends is our fault or the operator's; all else passes: `OOM`, `BUSY`,
/// `LOADING`, `MISCONF`, `NOREPLICAS` and the like are states of the server.
pub(super) fn store_error(error: RedisError) -> StoreError {
    let ours = match error.kind() {
        ErrorKind::Server(ServerErrorKind::ResponseError) => !is_protocol_error(&error),
        ErrorKind::UnexpectedReturnType | ErrorKind::Client => true,
        ErrorKind::Extension => error.code() == Some("WRONGTYPE"),
        _ => false,
    };
    if ours {
        StoreError::Failed(error.to_string())
    } else {
        StoreError::Unreachable(error.to_string())
    }
}

/// Redis says `ERR Protocol error` and hangs up where it does not like how we talk; also to a
/// caller that has not authenticated and sends more than ten arguments (its networking.c).
fn is_protocol_error(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.starts_with("Protocol error")
}
