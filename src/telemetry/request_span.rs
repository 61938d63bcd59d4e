//! The span of a request.

use axum::extract::Request;
use tracing::Span;
use tracing::level_filters::LevelFilter;

use super::trace_context::TraceContext;

/// The span of a request, at debug level, with the method and the path. The query is left out, because it may contain
/// an access token. A request with the context of a trace has such a span already.
pub(crate) fn request_span(request: &Request) -> Span {
    match TraceContext::of(request.headers()) {
        Some(_) => Span::current(),
        None => {
            tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
        }
    }
}

/// Whether the log can show spans of requests: `RUST_LOG` enables the debug level for some target.
pub(crate) fn is_request_span_enabled() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}
