//! Logs, metrics, and the spans and traces of requests.

mod classic_text;
mod log;
mod log_queue;
mod metrics;
mod node_metrics;
mod process;
mod request_span;
mod requests;
mod trace_context;
mod warning_pace;

pub use self::log::Log;
pub(crate) use self::metrics::OpenConnection;
pub use self::metrics::{Metrics, MetricsFormat};
pub(crate) use self::request_span::{is_request_span_enabled, request_span};
pub(crate) use self::requests::{Labels, WorkerRequests};
pub(crate) use self::trace_context::{TRACEPARENT, TraceContext};
pub(crate) use self::warning_pace::WarningPace;
