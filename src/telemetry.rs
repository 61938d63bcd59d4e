//! Logs, metrics, and the one request span.

mod metrics;

use std::io::IsTerminal;

use axum::extract::Request;
use tracing::Span;
use tracing_subscriber::EnvFilter;

pub use metrics::Metrics;

/// Starts logging to the standard error stream: for people on a terminal, as JSON lines elsewhere.
///
/// `RUST_LOG` chooses what is logged, as `tracing_subscriber::EnvFilter` reads it; by default
/// everything from `info` up. Does nothing where logging has been started already.
pub fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _ = if std::io::stderr().is_terminal() {
        logs.try_init()
    } else {
        logs.json().flatten_event(true).try_init()
    };
}

/// The span around each request, at debug level: it names the method and the path.
///
/// The query is left out because it may carry an access token.
pub(crate) fn request_span(request: &Request) -> Span {
    tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
}
