//! The meaning of errors of the redis crate.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::error::StoreError;
use crate::store::redis::redirect::Refused;

/// Whether the connection has to be replaced: it is closed, out of step or no longer authenticated, or its server is
/// no longer the primary.
pub(super) fn breaks_the_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => true,
        _ => error.code() == Some("NOAUTH") || is_protocol_error(error),
    }
}

/// [`StoreError::Failed`] if a retry cannot help, because of a defect of the service or of the configuration. Else
/// [`StoreError::Unreachable`]: what a cluster refuses while it changes, `OOM`, `BUSY`, `LOADING`, `MISCONF` and `NOREPLICAS` are states of the server that end.
pub(in crate::store::redis) fn store_error(error: RedisError) -> StoreError {
    let is_permanent = match error.kind() {
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            !is_protocol_error(&error) && Refused::of(&error, "").is_none()
        }
        ErrorKind::UnexpectedReturnType | ErrorKind::Client => true,
        ErrorKind::Extension => error.code() == Some("WRONGTYPE"),
        _ => false,
    };
    if is_permanent {
        StoreError::Failed(error.to_string())
    } else {
        StoreError::Unreachable(error.to_string())
    }
}

/// Redis replies `ERR Protocol error` and closes the connection after a malformed request, and after a request with
/// more than ten arguments from a client that has not authenticated (networking.c).
fn is_protocol_error(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.starts_with("Protocol error")
}

/// Whether the server does not know the command.
pub(super) fn is_unknown_command(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.starts_with("unknown command")
}
