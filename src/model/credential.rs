//! The credential that a stream was opened with.

use std::fmt::Debug;

/// A credential that can be withdrawn before it expires. A stream that was opened with it then ends, at the latest
/// with the next keep-alive.
pub trait Credential: Debug + Send + Sync {
    /// Whether the credential is no longer accepted.
    fn is_withdrawn(&self) -> bool;
}
