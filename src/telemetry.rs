//! Logs, metrics, and the one request span.

mod metrics;

use std::io::IsTerminal;

use axum::extract::Request;
use tracing::Level;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub use metrics::Metrics;
pub(crate) use metrics::{OpenConnection, PING};

/// What reads and writes the heads of requests.
const PROTOCOLS: [&str; 2] = ["h2", "hyper"];

/// Starts logging to the standard error stream: for people on a terminal, as JSON lines elsewhere.
///
/// `RUST_LOG` chooses what is logged, as `tracing_subscriber::EnvFilter` reads it; by default
/// everything from `info` up. The protocol crates never say more than that, because below it they
/// show the heads of requests, in which credentials come. Does nothing where logging has been
/// started already.
pub fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs: Box<dyn Layer<_> + Send + Sync> = if std::io::stderr().is_terminal() {
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
    let _ = Registry::default()
        .with(logs)
        .with(filter)
        .with(discreet)
        .try_init();
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
