//! The threads that serve connections, one for each core.
//!
//! Each has a runtime of its own, and a connection to the store of its own, so that a call is begun and
//! answered where it arrived and no thread waits for another.

use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// The runtimes, which end when this is dropped.
#[derive(Debug)]
pub(crate) struct Workers(Vec<Runtime>);

impl Workers {
    /// How many there are: as many as the cores this process may use.
    pub(crate) fn count() -> usize {
        available_parallelism().map_or(1, NonZero::get)
    }

    /// Starts the threads.
    pub(crate) fn start() -> io::Result<Self> {
        let runtimes = (0..Self::count()).map(|number| {
            // Of many threads with one: unlike the runtime of a single thread, it is woken by a system call
            // only while it sleeps, and an event wakes all its streams at once.
            Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name(format!("worker-{number}"))
                .enable_all()
                .build()
        });
        Ok(Self(runtimes.collect::<io::Result<_>>()?))
    }

    /// Where to spawn what they are to run.
    pub(crate) fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().map(Runtime::handle)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for runtime in self.0.drain(..) {
            // Another runtime's thread may be the one that drops this, and must not wait.
            runtime.shutdown_background();
        }
    }
}
