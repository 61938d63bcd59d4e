//! The digest of a credential.

use aws_lc_rs::digest::{SHA256, digest as sha};

/// The SHA-256 digest of a credential. The service stores and compares digests, never the credentials.
pub(super) type Digest = [u8; 32];

/// Computes the digest of a credential.
pub(super) fn digest(credential: &str) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(sha(&SHA256, credential.as_bytes()).as_ref());
    bytes
}
