//! The body of a response to a client whose stream was not opened.

use std::time::Duration;

use bytes::Bytes;

use crate::events::sse::frame;
use crate::events::sse::payload::EndReason;

/// The shortest time after which a client reconnects.
const LEAST_RETRY: Duration = Duration::from_secs(2);

/// A temporary reason to refuse a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamRefusal {
    /// The store is unreachable.
    StoreUnreachable,
    /// The maximum number of streams is open.
    TooManyStreams,
    /// The instance is overloaded.
    Overloaded,
}

impl StreamRefusal {
    /// Returns a complete body. The client reconnects after a random time between `wait` and twice
    /// `wait`, so that many clients do not return at once.
    pub(crate) fn body(self, wait: Duration) -> Bytes {
        let retry = wait.max(LEAST_RETRY).mul_f64(1.0 + fastrand::f64());
        let reason = match self {
            Self::StoreUnreachable => EndReason::StoreUnreachable,
            Self::TooManyStreams => EndReason::TooManyStreams,
            Self::Overloaded => EndReason::Overloaded,
        };
        let mut body = format!("retry: {}\n", retry.as_millis()).into_bytes();
        body.extend_from_slice(&frame::end(reason).data());
        body.into()
    }
}
