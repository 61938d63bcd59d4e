//! Short responses that are written without hyper, before the connection is closed.

use std::time::Duration;

use axum::response::Response;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::response_head::{Framing, head_bytes};
use crate::http::Front;
use crate::http::error::Error;

/// How long a client may take to read the response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long, and how many bytes, are read after the response. A client that is still sending when the connection is
/// closed would not see the response.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1_024;

/// Refuses bytes that hyper refused with `why`. The response of hyper has no body.
pub(super) async fn refuse_and_close(stream: TcpStream, why: &hyper::Error, front: &Front) {
    let error = if why.is_parse_too_large() {
        Error::HeadTooLarge
    } else {
        Error::NotHttp
    };
    write_response_and_close(stream, front.refusal(error, false)).await;
}

/// Writes a short response.
pub(super) async fn write_response_and_close(stream: TcpStream, response: Response) {
    let (head, body) = response.into_parts();
    let body = timeout(WRITE_TIMEOUT, body.collect()).await;
    let body = body.ok().and_then(Result::ok);
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let mut bytes = head_bytes(&head, Framing::Length(body.len()));
    bytes.extend_from_slice(&body);
    write_and_close(stream, &bytes).await;
}

/// Writes these bytes.
pub(super) async fn write_and_close(mut stream: TcpStream, bytes: &[u8]) {
    match timeout(WRITE_TIMEOUT, stream.write_all(bytes)).await {
        Ok(Ok(())) => close(stream).await,
        _ => debug!("a client did not read its response"),
    }
}

/// Closes a connection whose client may still be sending: reads for a while, so that the client can see the response.
pub(super) async fn close(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut rest = stream.take(LINGER_BYTES);
    let mut ignored = [0; 1_024];
    let lingered = async { while let Ok(1..) = rest.read(&mut ignored).await {} };
    // The connection is closed either way.
    let _ = timeout(LINGER, lingered).await;
}
