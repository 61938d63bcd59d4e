//! Logs, metrics, and the one request span.

mod log_queue;
mod metrics;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use axum::extract::Request;
use prometheus_client::metrics::counter::Counter;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, error};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use self::log_queue::LogQueue;
pub use metrics::Metrics;
pub(crate) use metrics::{OpenConnection, PING};

/// What reads and writes the heads of requests.
const PROTOCOLS: [&str; 2] = ["h2", "hyper"];

/// Counts the log lines of this process that were dropped.
static LINES_DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// The log of this process.
#[derive(Debug)]
pub struct Log(Arc<LogQueue>);

/// Writes into the queue; what is written at once is one line.
struct Lines(Arc<LogQueue>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Starts logging to the standard error stream: for people on a terminal, as JSON lines elsewhere.
    /// Panics are logged too, without a backtrace. Fails where the system gives no thread for it.
    ///
    /// `RUST_LOG` chooses what is logged, as `tracing_subscriber::EnvFilter` reads it; by default
    /// everything from `info` up. The protocol crates never say more than that, because below it they
    /// show the heads of requests, in which credentials come.
    ///
    /// Whoever logs never waits for the stream: lines that it does not take in time are dropped and counted.
    pub fn start() -> io::Result<Self> {
        let queue = Arc::new(LogQueue::new(LINES_DROPPED.clone()));
        let lines = Arc::clone(&queue);
        let stderr = own_stderr();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || lines.write_to(stderr))?;
        subscribe(&queue);
        panic::set_hook(Box::new(log_panic));
        Ok(Self(queue))
    }

    /// Writes a line whatever `RUST_LOG` says.
    pub fn say(&self, line: &str) {
        self.0.push(format!("{line}\n").as_bytes());
    }

    /// Waits until everything is written that was logged, but no longer than `patience`.
    pub fn finish(&self, patience: Duration) {
        self.0.finish(patience);
    }
}

/// The standard error stream without the lock of the standard library, which whoever waits for a write holds.
fn own_stderr() -> Box<dyn Write + Send> {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(stderr) => Box::new(File::from(stderr)),
        Err(_) => Box::new(io::stderr()),
    }
}

fn subscribe(queue: &Arc<LogQueue>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let queue = Arc::clone(queue);
    let logs = tracing_subscriber::fmt::layer().with_writer(move || Lines(Arc::clone(&queue)));
    let logs: Box<dyn Layer<_> + Send + Sync> = if io::stderr().is_terminal() {
        logs.boxed()
    } else {
        logs.json().flatten_event(true).boxed()
    };
    let discreet = filter_fn(|metadata| {
        let protocol = PROTOCOLS
            .iter()
            .any(|name| metadata.target().starts_with(name));
        !protocol || *metadata.level() <= Level::INFO
    });
    // Nothing is to be done where a test of this crate has started logging already.
    let _ = Registry::default()
        .with(logs)
        .with(filter)
        .with(discreet)
        .try_init();
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let cause = text.unwrap_or("a panic without a text");
    let place = panic.location().map(ToString::to_string);
    error!(cause, place, "a part of the service panicked");
}

/// Counts the log lines that were dropped.
pub(crate) fn log_lines_dropped() -> Counter {
    LINES_DROPPED.clone()
}

/// The span around each request, at debug level: it names the method and the path.
///
/// The query is left out because it may carry an access token.
pub(crate) fn request_span(request: &Request) -> Span {
    tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
}

/// Whether anything logged may be about the span of a request: whether debug is logged of anything.
pub(crate) fn request_spans_are_seen() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}
