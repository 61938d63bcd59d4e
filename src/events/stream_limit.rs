//! How many streams may be open, in all and per caller.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;

/// Counts the open streams of this instance.
#[derive(Debug)]
pub(super) struct StreamLimit {
    in_all: usize,
    per_caller: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_caller: HashMap<Arc<str>, usize>,
}

/// No further stream can be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StreamLimitReached {
    /// The instance has as many as it serves.
    #[error("this instance has as many streams as it serves")]
    Instance,
    /// The caller has as many as one may.
    #[error("you have as many streams open as one caller may, {0}")]
    Caller(usize),
    /// The streams of the instance are about as many users as they may be.
    #[error("the streams of this instance are about as many users as they may be")]
    Users,
}

/// The place of one open stream; dropping it makes room.
#[derive(Debug)]
pub(super) struct StreamPermit {
    capacity: Arc<StreamLimit>,
    caller: Option<Arc<str>>,
}

impl StreamLimit {
    pub(super) fn new(in_all: usize, per_caller: usize) -> Self {
        Self {
            in_all,
            per_caller,
            taken: Mutex::default(),
        }
    }

    /// Takes a place for a stream of `caller`; one without a name counts in all only.
    pub(super) fn take(
        self: &Arc<Self>,
        caller: Option<Arc<str>>,
    ) -> Result<StreamPermit, StreamLimitReached> {
        let mut taken = self.taken.lock();
        if taken.in_all >= self.in_all {
            return Err(StreamLimitReached::Instance);
        }
        if let Some(caller) = &caller {
            let open = taken.by_caller.entry(Arc::clone(caller)).or_default();
            if *open >= self.per_caller {
                return Err(StreamLimitReached::Caller(self.per_caller));
            }
            *open += 1;
        }
        taken.in_all += 1;
        drop(taken);
        Ok(StreamPermit {
            capacity: Arc::clone(self),
            caller,
        })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut taken = self.capacity.taken.lock();
        taken.in_all -= 1;
        let Some(caller) = &self.caller else { return };
        if let Some(open) = taken.by_caller.get_mut(caller) {
            *open -= 1;
            if *open == 0 {
                taken.by_caller.remove(caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_its_stream_ends() {
        let capacity = Arc::new(StreamLimit::new(3, 2));
        let alice = || capacity.take(Some("alice".into()));
        let (first, second) = (alice().unwrap(), alice().unwrap());
        assert_eq!(alice().err(), Some(StreamLimitReached::Caller(2)));
        let third = capacity.take(None).unwrap();
        assert_eq!(
            capacity.take(None).err(),
            Some(StreamLimitReached::Instance)
        );
        drop((first, third));
        assert!(alice().is_ok());
        drop(second);
        assert!(capacity.taken.lock().by_caller.is_empty());
        assert_eq!(capacity.taken.lock().in_all, 0);
    }
}
