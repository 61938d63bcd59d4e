//! Limits the number of open streams, in total and per caller.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;

/// Counts the open streams of this instance.
#[derive(Debug)]
pub(super) struct StreamLimit {
    total: usize,
    per_caller: usize,
    open: Mutex<OpenStreams>,
}

#[derive(Debug, Default)]
struct OpenStreams {
    total: usize,
    by_caller: HashMap<Arc<str>, usize>,
}

/// Why no further stream can be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum StreamLimitReached {
    /// The instance has its maximum number of streams.
    #[error("the instance has its maximum number of streams")]
    Instance,
    /// The caller has its maximum number of streams.
    #[error("the caller has its maximum number of open streams, {0}")]
    Caller(usize),
    /// The streams of the instance watch the maximum number of users.
    #[error("the streams of the instance watch the maximum number of users")]
    WatchedUsers,
}

/// Counts as one open stream until it is dropped.
#[derive(Debug)]
pub(super) struct StreamPermit {
    limit: Arc<StreamLimit>,
    caller: Option<Arc<str>>,
}

impl StreamLimit {
    pub(super) fn new(total: usize, per_caller: usize) -> Self {
        Self {
            total,
            per_caller,
            open: Mutex::default(),
        }
    }

    /// Counts a stream of `caller`. For `None`, only the total limit applies.
    pub(super) fn take(
        self: &Arc<Self>,
        caller: Option<Arc<str>>,
    ) -> Result<StreamPermit, StreamLimitReached> {
        let mut streams = self.open.lock();
        if streams.total >= self.total {
            return Err(StreamLimitReached::Instance);
        }
        if let Some(caller) = &caller {
            let open = streams.by_caller.entry(Arc::clone(caller)).or_default();
            if *open >= self.per_caller {
                return Err(StreamLimitReached::Caller(self.per_caller));
            }
            *open += 1;
        }
        streams.total += 1;
        drop(streams);
        Ok(StreamPermit {
            limit: Arc::clone(self),
            caller,
        })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut streams = self.limit.open.lock();
        streams.total -= 1;
        let Some(caller) = &self.caller else { return };
        if let Some(open) = streams.by_caller.get_mut(caller) {
            *open -= 1;
            if *open == 0 {
                streams.by_caller.remove(caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_free_again_after_its_stream_ended() {
        let limit = Arc::new(StreamLimit::new(3, 2));
        let alice = || limit.take(Some("alice".into()));
        let (first, second) = (
            alice().expect("a free permit"),
            alice().expect("a free permit"),
        );
        assert_eq!(alice().err(), Some(StreamLimitReached::Caller(2)));
        let third = limit.take(None).expect("a free permit");
        assert_eq!(limit.take(None).err(), Some(StreamLimitReached::Instance));
        drop((first, third));
        assert!(alice().is_ok());
        drop(second);
        assert!(limit.open.lock().by_caller.is_empty());
        assert_eq!(limit.open.lock().total, 0);
    }
}
