//! The answer to what is no request: hyper's own has no body.

use std::time::Duration;

use axum::http::Version;
use axum::response::Response;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::head::{Length, head_bytes};
use crate::http::Front;
use crate::http::error::Error;

/// How long a client may take to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long, and how far, the rest of a request is read that was refused: a client that is still sending when the
/// connection is closed would never see the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1_024;

/// Says why, and closes the connection.
pub(super) async fn refuse(stream: TcpStream, why: &hyper::Error, front: &Front) {
    let error = match why.is_parse_too_large() {
        true => Error::HeadTooLarge,
        false => Error::NotHttp,
    };
    say_and_close(stream, Version::HTTP_11, front.refusal(error)).await;
}

/// Writes a short answer, and closes the connection.
pub(super) async fn say_and_close(stream: TcpStream, version: Version, answer: Response) {
    let (head, body) = answer.into_parts();
    let body = timeout(PATIENCE, body.collect()).await;
    let body = body.ok().and_then(Result::ok);
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let mut bytes = head_bytes(&head, version, Length::Known(body.len()));
    bytes.extend_from_slice(&body);
    write_and_close(stream, &bytes).await;
}

/// Writes this, and closes the connection.
pub(super) async fn write_and_close(mut stream: TcpStream, bytes: &[u8]) {
    let said = timeout(PATIENCE, async {
        stream.write_all(bytes).await?;
        stream.shutdown().await
    });
    if !matches!(said.await, Ok(Ok(()))) {
        debug!("a client did not take its answer");
        return;
    }
    let mut rest = stream.take(LINGER_BYTES);
    let mut ignored = [0; 1_024];
    let lingered = async { while let Ok(1..) = rest.read(&mut ignored).await {} };
    // It is closed either way.
    let _ = timeout(LINGER, lingered).await;
}
