//! The credential that a stream was opened with.

use std::fmt::Debug;

/// What a stream was opened with, where that can be withdrawn before it expires. The stream then
/// ends, at the latest with its next keep-alive.
pub trait Credential: Debug + Send + Sync {
    /// Whether the credential counts no more.
    fn is_withdrawn(&self) -> bool;
}
