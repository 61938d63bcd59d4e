//! The threads that serve connections, one for each core.
//!
//! Each has a runtime of its own, and a connection to the store of its own, so that a call is begun and
//! answered where it arrived and no thread waits for another.

use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// The most of them. A few cores serve more calls than one Redis answers, and each worker takes a connection of
/// it and gathers its pings apart; where nothing limits the cores of a container, there may be a hundred.
const MOST: usize = 8;

/// The threads, which end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct WorkerThreads(Vec<Runtime>);

impl WorkerThreads {
    /// How many there are: as many as the cores this process may use, up to eight.
    pub(crate) fn count() -> usize {
        available_parallelism().map_or(1, NonZero::get).min(MOST)
    }

    /// Starts them. Fails where the system gives no files for them.
    pub(crate) fn start() -> io::Result<Self> {
        let mut threads = Self::default();
        for number in 0..Self::count() {
            // Of many threads with one: unlike the runtime of a single thread, it is woken by a system call
            // only while it sleeps, and an event wakes all its streams at once.
            let runtime = Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name(format!("worker-{number}"))
                .on_thread_start(move || keep_to_a_core(number))
                .enable_io()
                .enable_time()
                .build()?;
            threads.0.push(runtime);
        }
        Ok(threads)
    }

    /// Where to spawn what they are to run.
    pub(crate) fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().map(Runtime::handle)
    }
}

/// Keeps this thread on the core of worker `number`, where each core has a worker.
///
/// Left to itself the system puts two workers on one core now and then, and lets one of them wait for
/// milliseconds while other work has the other core. Work that is bound to no core moves out of their way.
/// Where that is refused, or there are more cores than workers, a thread runs on any.
#[cfg(target_os = "linux")]
fn keep_to_a_core(number: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let cores: Vec<_> = cores.collect();
    if cores.len() == WorkerThreads::count()
        && let Some(core) = cores.get(number)
    {
        let mut own = CpuSet::new();
        own.set(*core);
        let _ = sched_setaffinity(None, &own);
    }
}

/// Elsewhere there is no such call.
#[cfg(not(target_os = "linux"))]
fn keep_to_a_core(_number: usize) {}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        for runtime in self.0.drain(..) {
            // A thread of another runtime may be the one that drops this, and must not wait.
            runtime.shutdown_background();
        }
    }
}
