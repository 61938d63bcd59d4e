//! Whether the transport of a request can carry a stream.

use tokio::time::Instant;

/// An extension of requests whose transport cannot carry every stream. `net` adds it; the handler of streams reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StreamSupport {
    /// The transport sends a response only when it is complete, so it carries no stream.
    None,
    /// The transport cuts every response off soon after this time.
    Until(Instant),
}
