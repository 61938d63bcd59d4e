//! The threads that serve connections, one for each core, and those that do the calls about many users.
//!
//! Each of the first has a runtime of its own, and a connection to the store of its own, so that a call is begun
//! and answered where it arrived and no thread waits for another. The others share a runtime and a connection: a
//! call about a thousand users takes as long as twenty pings, and is begun by whichever finds a core.

#[cfg(not(target_os = "linux"))]
#[path = "worker_threads/any_core.rs"]
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
#[derive(Debug)]
pub(crate) struct WorkerThreads {
    /// Where to spawn what each worker is to run.
    pub(crate) workers: Vec<Handle>,
    /// Where to spawn calls about many users.
    pub(crate) batch: Handle,
    runtimes: Vec<Runtime>,
}

impl WorkerThreads {
    /// How many workers there are.
    pub(crate) fn workers() -> usize {
        count()
    }

    /// How many runtimes they have: one for each worker, and one for all others.
    pub(crate) fn runtimes() -> usize {
        count() + 1
    }

    /// Starts them. Fails where the system gives no files for them.
    pub(crate) fn start() -> io::Result<Self> {
        let cores = Cores::of(count());
        let worker = |number| {
            // Of many threads with one: unlike the runtime of a single thread, it is woken by a system call
            // only while it sleeps, and an event wakes all its streams at once.
            Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name(format!("worker-{number}"))
                .on_thread_start(cores.on_thread_start(number))
                .enable_io()
                .enable_time()
                .build()
        };
        let mut runtimes = (0..count()).map(worker).collect::<io::Result<Vec<_>>>()?;
        let batch = Builder::new_multi_thread()
            .worker_threads(count())
            .thread_name("batch")
            .enable_io()
            .enable_time()
            .build()?;
        let handles = runtimes.iter().map(|worker| worker.handle().clone());
        let (workers, batch_handle) = (handles.collect(), batch.handle().clone());
        runtimes.push(batch);
        Ok(Self {
            workers,
            batch: batch_handle,
            runtimes,
        })
    }
}

/// How many workers there are, and as many others: one for each core that this process may use, up to eight.
fn count() -> usize {
    available_parallelism().map_or(1, NonZero::get).min(MOST)
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        for runtime in self.runtimes.drain(..) {
            // A thread of another runtime may be the one that drops this, and must not wait.
            runtime.shutdown_background();
        }
    }
}
