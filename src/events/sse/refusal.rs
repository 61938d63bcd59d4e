//! What is said in place of a stream that cannot be opened now.

use std::time::Duration;

use bytes::Bytes;

use crate::events::sse::frame;
use crate::events::sse::payload::EndReason;

/// The shortest time after which a client is told to try again.
const LEAST_RETRY: Duration = Duration::from_secs(2);

/// Why a stream cannot be opened now, and perhaps can be a moment later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRefusal {
    /// The store is out of reach.
    StoreUnreachable,
    /// As many streams are open as may be.
    TooManyStreams,
    /// There is too much to do.
    Overloaded,
}

impl StreamRefusal {
    /// A whole body of an event stream, which tells the client to try again not before `wait`, and at a random
    /// moment, so that many clients do not come back together.
    pub fn body(self, wait: Duration) -> Bytes {
        let retry = wait.max(LEAST_RETRY).mul_f64(1.0 + fastrand::f64());
        let reason = match self {
            Self::StoreUnreachable => EndReason::StoreUnreachable,
            Self::TooManyStreams => EndReason::TooManyStreams,
            Self::Overloaded => EndReason::Overloaded,
        };
        let end = frame::end(reason);
        format!("retry: {}\n{end}", retry.as_millis()).into()
    }
}
