//! The threads that serve connections, one for each core.
//!
//! Each has a runtime of its own, and a connection to the store of its own, so that a call is begun and
//! answered where it arrived and no thread waits for another.

#[cfg(not(target_os = "linux"))]
#[path = "workers/any_core.rs"]
mod cores;
#[cfg(target_os = "linux")]
mod cores;

use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

use self::cores::Cores;

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
        let cores = Cores::of(Self::count());
        for number in 0..Self::count() {
            // Of many threads with one: unlike the runtime of a single thread, it is woken by a system call
            // only while it sleeps, and an event wakes all its streams at once.
            let runtime = Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name(format!("worker-{number}"))
                .on_thread_start(cores.on_thread_start(number))
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

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        for runtime in self.0.drain(..) {
            // A thread of another runtime may be the one that drops this, and must not wait.
            runtime.shutdown_background();
        }
    }
}
