//! What is said in place of a stream that cannot be opened now.

use std::time::Duration;

use bytes::Bytes;

/// The shortest time after which a client is told to try again.
const LEAST_RETRY: Duration = Duration::from_secs(2);

/// Why a stream cannot be opened now, and perhaps can be a moment later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The store is out of reach.
    StoreUnreachable,
    /// As many streams are open as may be.
    TooManyStreams,
    /// There is too much to do.
    Overloaded,
}

impl Refusal {
    /// The word that the message names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StoreUnreachable => "store-unreachable",
            Self::TooManyStreams => "too-many-streams",
            Self::Overloaded => "overloaded",
        }
    }

    /// A whole body of an event stream, which tells the client to try again not before `wait`, and at a random
    /// moment, so that many clients do not come back together.
    pub fn body(self, wait: Duration) -> Bytes {
        let retry = wait.max(LEAST_RETRY).mul_f64(1.0 + fastrand::f64());
        format!(
            "retry: {}\nevent: presence.end\ndata: {{\"reason\":\"{}\"}}\n\n",
            retry.as_millis(),
            self.as_str()
        )
        .into()
    }
}
