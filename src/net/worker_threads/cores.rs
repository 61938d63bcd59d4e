//! Which core each worker keeps to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A core for each worker, where there are as many; else every thread runs on any.
///
/// Disconnected to itself the system puts two workers on one core now and then, and lets one of them wait for
/// milliseconds while other work has the other core.
pub(super) struct Cores(Option<Arc<Own>>);

struct Own {
    all: CpuSet,
    of_worker: Vec<usize>,
}

impl Cores {
    /// The cores that this thread may use, for `workers` of them. Any core may be the first, since the first
    /// workers of several instances on one machine are their busiest.
    pub(super) fn of(workers: usize) -> Self {
        let Ok(all) = sched_getaffinity(None) else {
            return Self(None);
        };
        let cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        let mut of_worker: Vec<_> = cores.collect();
        if of_worker.len() != workers {
            return Self(None);
        }
        of_worker.rotate_left(fastrand::usize(..workers));
        Self(Some(Arc::new(Own { all, of_worker })))
    }

    /// What each thread of the runtime of worker `number` does first. The first to start is the worker and keeps
    /// to its core; all others, which do what would block it, inherit that and give it up.
    pub(super) fn on_thread_start(&self, number: usize) -> impl Fn() + use<> {
        let own = self.0.clone();
        let is_first = AtomicBool::new(true);
        move || {
            let Some(own) = &own else {
                return;
            };
            let mut cores = own.all;
            if is_first.swap(false, Ordering::Relaxed) {
                cores = CpuSet::new();
                cores.set(own.of_worker[number]);
            }
            // Where it is refused, the thread runs where it did.
            let _ = sched_setaffinity(None, &cores);
        }
    }
}
