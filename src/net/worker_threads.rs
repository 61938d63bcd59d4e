//! The threads that serve connections, one for each core, and the threads of bulk calls.
//!
//! Each worker has a runtime and a connection to the store of its own, so that a request is handled on the thread where
//! it arrived. The threads of bulk calls share a runtime and a connection: a lookup of a thousand users takes as long
//! as twenty pings, and runs on any free core.

#[cfg(target_os = "linux")]
mod cores;

use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// The most workers. A few cores serve more calls than one Redis answers, and each worker takes a connection to Redis
/// and batches its pings separately. Without a CPU limit, a container may see a hundred cores.
const MAX_WORKERS: usize = 8;

/// The threads, which end when this is dropped.
#[derive(Debug)]
pub(crate) struct WorkerThreads {
    /// The runtimes of the workers.
    pub(crate) workers: Vec<Handle>,
    /// The runtime of bulk calls.
    pub(crate) bulk: Handle,
    runtimes: Vec<Runtime>,
}

impl WorkerThreads {
    /// The number of workers: one for each core that this process may use, at most eight.
    pub(crate) fn workers() -> usize {
        available_parallelism()
            .map_or(1, NonZero::get)
            .min(MAX_WORKERS)
    }

    /// The number of runtimes: one for each worker, and one for bulk calls.
    pub(crate) fn runtimes() -> usize {
        Self::workers() + 1
    }

    /// Starts the threads. Fails if the process may open too few files.
    pub(crate) fn start() -> io::Result<Self> {
        let count = Self::workers();
        #[cfg(target_os = "linux")]
        let cores = cores::Cores::detect(count);
        let worker = |number| {
            // A multi-thread runtime with one thread: other threads wake it by a system call only while it sleeps,
            // unlike a current-thread runtime.
            let mut builder = runtime(1, format!("worker-{number}"));
            #[cfg(target_os = "linux")]
            builder.on_thread_start(cores.bind_worker(number));
            builder.build()
        };
        let mut runtimes = (0..count).map(worker).collect::<io::Result<Vec<_>>>()?;
        let bulk = runtime(count, "bulk".to_owned()).build()?;
        let workers = runtimes.iter().map(|worker| worker.handle().clone());
        let (workers, bulk_handle) = (workers.collect(), bulk.handle().clone());
        runtimes.push(bulk);
        Ok(Self {
            workers,
            bulk: bulk_handle,
            runtimes,
        })
    }
}

fn runtime(threads: usize, name: String) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .thread_name(name)
        .enable_io()
        .enable_time();
    builder
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        for runtime in self.runtimes.drain(..) {
            // The thread that drops this may belong to another runtime, and must not block.
            runtime.shutdown_background();
        }
    }
}
