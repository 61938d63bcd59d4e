//! Binds each worker to a core.
//!
//! Otherwise the kernel sometimes runs two workers on one core, and one of them waits for milliseconds while the other
//! core does other work.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of the workers.
pub(super) struct Cores {
    all: CpuSet,
    /// One core for each worker. Empty if there is not exactly one core for each worker; then no worker is bound.
    of_workers: Vec<usize>,
}

impl Cores {
    /// Finds the cores that this process may use. The first worker gets a random core, because the first workers of
    /// several instances on one machine are their busiest.
    pub(super) fn detect(workers: usize) -> Self {
        let all = sched_getaffinity(None).unwrap_or_default();
        let cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        let mut of_workers: Vec<_> = cores.collect();
        if of_workers.len() == workers {
            of_workers.rotate_left(fastrand::usize(..workers));
        } else {
            of_workers.clear();
        }
        Self { all, of_workers }
    }

    /// Returns what each thread of the runtime of this worker runs first. The first thread is the worker and is bound
    /// to its core. Later threads run blocking work; they inherit the binding and give it up.
    pub(super) fn bind_worker(&self, number: usize) -> impl Fn() + use<> {
        let all = self.all;
        let core = self.of_workers.get(number).copied();
        let is_first = AtomicBool::new(true);
        move || {
            let Some(core) = core else {
                return;
            };
            let mut cores = all;
            if is_first.swap(false, Ordering::Relaxed) {
                cores = CpuSet::new();
                cores.set(core);
            }
            // If the kernel refuses, the thread runs on any core.
            let _ = sched_setaffinity(None, &cores);
        }
    }
}
