//! The meaning of errors of the redis crate.

use std::time::Duration;

use parking_lot::Mutex;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use tracing::warn;

use crate::store::error::StoreError;
use crate::store::redis::cluster::redirect::Refused;
use crate::telemetry::WarningPace;

/// Why a server cannot be used, in words without an address, a credential or a reply of a server.
const BAD_CREDENTIALS: &str = "the server refuses the user or the password of REDIS_URL";
const NO_REDIS: &str =
    "the server does not speak the protocol of Redis; a server with TLS needs a URL with rediss";

/// The time between two warnings of a missing right.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Whether the connection has to be replaced: it is closed, out of step or no longer authenticated, or its server is
/// no longer the primary.
pub(super) fn breaks_the_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => true,
        _ => is_not_authenticated(error) || is_protocol_error(error),
    }
}

/// [`StoreError::Forbidden`] if the Redis user lacks a right. [`StoreError::Failed`] if a retry cannot help, because of
/// a defect of the service or of the configuration. Else [`StoreError::Unreachable`]: what a cluster refuses while it
/// changes, `OOM`, `BUSY`, `LOADING`, `MISCONF` and `NOREPLICAS` are states of the server that end.
pub(in crate::store::redis) fn store_error(error: RedisError) -> StoreError {
    if is_not_authenticated(&error) {
        return StoreError::Unfit(BAD_CREDENTIALS.to_owned());
    }
    if lacks_a_right(&error) {
        warn_of_a_missing_right(&error);
        return StoreError::Forbidden(error.to_string());
    }
    if error.kind() == ErrorKind::Parse {
        return StoreError::Unreachable(NO_REDIS.to_owned());
    }
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

/// Whether the server refused the credentials, or needs some.
fn is_not_authenticated(error: &RedisError) -> bool {
    let is_code = matches!(error.code(), Some("NOAUTH" | "WRONGPASS"));
    is_code || error.kind() == ErrorKind::AuthenticationFailed
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

/// Warns at most once in [`WARNING_INTERVAL`]. Every call of a client may meet the error.
fn warn_of_a_missing_right(error: &RedisError) {
    static WARNINGS: Mutex<WarningPace> = Mutex::new(WarningPace::new());
    if WARNINGS.lock().permits(WARNING_INTERVAL) {
        warn!(%error, "redis forbids a command");
    }
}

/// Whether the Redis user may not do what it asked for, within a script or without.
pub(super) fn lacks_a_right(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        // Redis 7.0, and later versions.
        || detail.starts_with("The user executing the script can't")
        || detail.contains("ACL failure in script")
}
