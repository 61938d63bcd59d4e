//! The log on the standard error stream.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing::{Level, error};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::log_queue::LogQueue;

/// The crates that read and write the heads of requests.
const PROTOCOL_CRATES: [&str; 2] = ["h2", "hyper"];

/// The number of dropped log lines of this process.
static LINES_DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// The log of this process.
#[derive(Debug)]
pub struct Log(Arc<LogQueue>);

/// A writer of the queue. Each write is one line.
struct LineWriter(Arc<LogQueue>);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Starts the log on the standard error stream: text on a terminal, JSON lines elsewhere. Panics are logged without
    /// a backtrace. Fails if the system cannot start the log thread.
    ///
    /// `RUST_LOG` selects the lines by the rules of `tracing_subscriber::EnvFilter`; the default is `info`. The HTTP
    /// crates log errors only: a client can cause any number of their warnings, and their debug lines show the heads of
    /// requests with credentials.
    ///
    /// Logging never blocks: a line that the stream does not accept in time is dropped and counted.
    pub fn start() -> io::Result<Self> {
        let queue = Arc::new(LogQueue::new(LINES_DROPPED.clone()));
        let lines = Arc::clone(&queue);
        let stderr = unlocked_stderr();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || lines.write_to(stderr))?;
        subscribe(&queue);
        panic::set_hook(Box::new(log_panic));
        Ok(Self(queue))
    }

    /// Writes a line that `RUST_LOG` does not filter.
    pub fn print(&self, line: &str) {
        self.0.push(format!("{line}\n").as_bytes());
    }

    /// Waits until every line is written, at most for `limit`.
    pub fn finish(&self, limit: Duration) {
        self.0.finish(limit);
    }
}

/// The standard error stream without the lock of the standard library. A blocked write would hold that lock.
fn unlocked_stderr() -> Box<dyn Write + Send> {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(stderr) => Box::new(File::from(stderr)),
        Err(_) => Box::new(io::stderr()),
    }
}

fn subscribe(queue: &Arc<LogQueue>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let queue = Arc::clone(queue);
    let logs = tracing_subscriber::fmt::layer().with_writer(move || LineWriter(Arc::clone(&queue)));
    let logs: Box<dyn Layer<_> + Send + Sync> = if io::stderr().is_terminal() {
        logs.boxed()
    } else {
        logs.json().flatten_event(true).boxed()
    };
    let protocol_filter = filter_fn(|metadata| {
        let is_protocol_crate = PROTOCOL_CRATES
            .iter()
            .any(|name| metadata.target().starts_with(name));
        !is_protocol_crate || *metadata.level() <= Level::ERROR
    });
    // In the tests of this crate another test may have started the log already.
    let _ = Registry::default()
        .with(logs)
        .with(filter)
        .with(protocol_filter)
        .try_init();
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let cause = text.unwrap_or("a panic without a message");
    let place = panic.location().map(ToString::to_string);
    error!(cause, place, "panic");
}

/// The number of dropped log lines.
pub(super) fn log_lines_dropped() -> Counter {
    LINES_DROPPED.clone()
}
