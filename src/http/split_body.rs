//! Splits large bodies that are part of the binary into small frames.
//!
//! A connection charges the memory of a frame to its client until the frame is sent. The bytes of these bodies need no
//! memory of their own. With small frames, a client is charged only for what hyper has copied.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};

/// The largest frame, in bytes.
const FRAME_BYTES: usize = 16 * 1_024;

/// Splits the body of `response` into frames of at most [`FRAME_BYTES`], if the body is larger.
pub(super) fn split_large_body(response: Response) -> Response {
    let length = response.body().size_hint().exact();
    match length {
        Some(length) if length > FRAME_BYTES as u64 => response.map(|body| {
            Body::new(SplitBody {
                body,
                rest: Bytes::new(),
            })
        }),
        _ => response,
    }
}

/// A body that splits the frames of another body. No bytes are copied.
#[derive(Debug)]
struct SplitBody {
    body: Body,
    /// The rest of the last frame of `body`.
    rest: Bytes,
}

impl HttpBody for SplitBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(FRAME_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.body.size_hint().exact();
        let left = left.map(|left| left + self.rest.len() as u64);
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    /// The length of each frame, and the bytes of all frames.
    async fn read(mut body: Body) -> (Vec<usize>, Vec<u8>) {
        let (mut lengths, mut bytes) = (Vec::new(), Vec::new());
        while let Some(frame) = body.frame().await {
            let data = frame
                .expect("from memory")
                .into_data()
                .expect("no trailers");
            lengths.push(data.len());
            bytes.extend_from_slice(&data);
        }
        (lengths, bytes)
    }

    proptest! {
        #[test]
        fn a_body_of_any_length_arrives_complete_in_frames_of_at_most_16_kib(length in 0_usize..100_000) {
            let whole: Vec<u8> = (0..length).map(|each| each as u8).collect();
            let response = split_large_body(whole.clone().into_response());
            prop_assert_eq!(response.body().size_hint().exact(), Some(length as u64));
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let (lengths, bytes) = runtime.expect("a runtime").block_on(read(response.into_body()));
            prop_assert_eq!(bytes, whole);
            prop_assert!(lengths.iter().all(|length| *length <= FRAME_BYTES), "{:?}", lengths);
        }
    }
}
