//! How a connection to Redis is made.

use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use super::errors::store_error;
use super::server::Server;
use super::server_info::ServerInfo;
use crate::store::StoreError;

/// How long a command may take. With [`super::main_connection::PATIENCE`] it keeps a call under the 2 s after which
/// our clients are promised an answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1_200);

/// How long a connection may take to be made, from the look-up of the server to the last of the
/// three round trips before it serves.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Commands that may wait to be written. The crate's default of 50 makes callers wait for the
/// writer task under load, as its documentation of `set_pipeline_buffer_size` says.
const PIPELINE_BUFFER: usize = 4_096;

/// A connection to `server`, if that can do what we need.
pub(in crate::store::redis) async fn connected_by(
    server: &Server,
) -> Result<(MultiplexedConnection, ServerInfo), StoreError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_pipeline_buffer_size(PIPELINE_BUFFER);
    let mut connection = server.commands(&config).await.map_err(store_error)?;
    let server_info = ServerInfo::of(&mut connection).await?;
    server_info.check()?;
    Ok((connection, server_info))
}

/// Fails where `connecting` takes longer than [`CONNECT_TIMEOUT`].
pub(in crate::store::redis) async fn in_time<T>(
    connecting: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let too_slow = |_| {
        Err(StoreError::Unreachable(
            "connecting took too long".to_owned(),
        ))
    };
    timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(too_slow)
}
