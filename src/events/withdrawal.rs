//! The end of streams whose credential counts no longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a credential was withdrawn; shared by whoever withdraws it and the streams that it opened.
#[derive(Clone, Debug, Default)]
pub struct Withdrawal(Arc<AtomicBool>);

impl Withdrawal {
    /// Withdraws the credential. Open streams end with the next [`Hub::end_withdrawn`](super::Hub::end_withdrawn).
    pub fn withdraw(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was withdrawn.
    pub fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
