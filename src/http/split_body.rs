//! Bodies that are part of the program, passed on in small parts.
//!
//! A connection counts a frame that it has yet to send as memory of its client. Of these bodies only the part that hyper
//! has copied is.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};

/// The largest frame that a connection is given.
const PART_BYTES: usize = 16 * 1_024;

/// The same response, whose body comes in parts where it is large.
pub(super) fn in_parts(response: Response) -> Response {
    let length = response.body().size_hint().exact();
    match length {
        Some(length) if length > PART_BYTES as u64 => response.map(|body| {
            Body::new(InParts {
                body,
                rest: Bytes::new(),
            })
        }),
        _ => response,
    }
}

/// A body that splits the frames of another. Splitting copies nothing.
#[derive(Debug)]
struct InParts {
    body: Body,
    /// What is left of the last frame.
    rest: Bytes,
}

impl HttpBody for InParts {
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
        let length = self.rest.len().min(PART_BYTES);
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

    /// The lengths of the frames, and all of their bytes.
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
        fn a_body_of_any_length_comes_whole_in_frames_of_16_kib_at_most(length in 0_usize..100_000) {
            let whole: Vec<u8> = (0..length).map(|each| each as u8).collect();
            let response = in_parts(whole.clone().into_response());
            prop_assert_eq!(response.body().size_hint().exact(), Some(length as u64));
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let (lengths, bytes) = runtime.expect("a runtime").block_on(read(response.into_body()));
            prop_assert_eq!(bytes, whole);
            prop_assert!(lengths.iter().all(|length| *length <= PART_BYTES), "{:?}", lengths);
        }
    }
}
