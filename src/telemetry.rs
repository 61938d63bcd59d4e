//! Logs, metrics and the span of requests.

mod log;
mod log_queue;
mod metrics;
mod node_metrics;
mod request_span;

pub use self::log::Log;
pub use self::metrics::Metrics;
pub(crate) use self::metrics::OpenConnection;
pub(crate) use self::request_span::{is_request_span_enabled, request_span};
