//! The place of a request in a distributed trace (W3C Trace Context).

use std::fmt;

use axum::http::{HeaderMap, Request};
use tracing::{Span, error_span};

/// The header that carries the context.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The length of the fields of version 00, with their dashes.
const FIELDS_BYTES: usize = 55;

/// The flag that asks for a record of the trace.
const SAMPLED: u8 = 1;

/// A trace, and a span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceContext {
    /// The context that the client of a request sent. `None` if it is absent, malformed or repeated.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.to_str().ok()?)
    }

    /// Reads the text of any version: the fields of version 00 are the beginning of every version.
    fn parse(text: &str) -> Option<Self> {
        let fields = text.get(..FIELDS_BYTES)?;
        let is_valid = |letter: u8| {
            letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter) || letter == b'-'
        };
        if !fields.bytes().all(is_valid) {
            return None;
        }
        let parts: Vec<&str> = fields.split('-').collect();
        let [version, trace, span, flags] = parts[..] else {
            return None;
        };
        if (version.len(), trace.len(), span.len(), flags.len()) != (2, 32, 16, 2) {
            return None;
        }
        let rest = &text[FIELDS_BYTES..];
        let fits = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let context = Self {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            // The other flags of later versions are unknown.
            flags: u8::from_str_radix(flags, 16).ok()? & SAMPLED,
        };
        (fits && context.trace != 0 && context.span != 0).then_some(context)
    }

    /// A new trace with this id and a new span.
    pub(crate) fn new_trace(id: u128) -> Self {
        Self {
            trace: id.max(1),
            span: new_span(),
            flags: SAMPLED,
        }
    }

    /// A new span of the same trace.
    pub(crate) fn child(self) -> Self {
        Self {
            span: new_span(),
            ..self
        }
    }

    /// The id of the trace, as 32 hexadecimal digits.
    pub(crate) fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The span of the log lines of a request. It has the highest level, so that every line that `RUST_LOG` lets
    /// through has it. The query is left out, because it may contain an access token.
    pub(crate) fn request_span<B>(self, request: &Request<B>) -> Span {
        error_span!(
            "request",
            trace_id = self.trace_id(),
            parent_id = format!("{:016x}", self.span),
            method = %request.method(),
            path = request.uri().path(),
        )
    }
}

/// The value of the header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace, self.span, self.flags
        )
    }
}

fn new_span() -> u64 {
    fastrand::u64(1..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().expect("a header"));
        }
        TraceContext::of(&headers).map(|context| context.to_string())
    }

    #[test]
    fn a_context_is_read_as_it_is_written() {
        assert_eq!(read(&[TEXT]).as_deref(), Some(TEXT));
        let not_sampled = TEXT.replace("-01", "-00");
        assert_eq!(read(&[&not_sampled]), Some(not_sampled.clone()));
        let later = TEXT.replace("00-4", "cc-4");
        for later in [later.clone(), format!("{later}-what-comes")] {
            assert_eq!(read(&[&later]).as_deref(), Some(TEXT), "{later}");
        }
    }

    #[test]
    fn a_malformed_or_repeated_context_is_ignored() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[TEXT, TEXT]), None);
        for malformed in [
            "",
            "00",
            &TEXT.to_uppercase(),
            &TEXT.replace("00-4", "ff-4"),
            &TEXT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &TEXT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &TEXT.replace("-01", "-0x"),
            &TEXT.replace("00f067", "00f-67"),
            &format!("{TEXT}-more"),
            &format!("{TEXT} "),
            &TEXT.replace("00-4", "01-4").replace("-01", "-01more"),
        ] {
            assert_eq!(read(&[malformed]), None, "{malformed}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,70}|[0-9a-f-]{50,60}") {
            if let Some(context) = TraceContext::parse(&text) {
                prop_assert!(text.contains(&context.trace_id()));
            }
        }
    }

    #[test]
    fn a_child_is_a_new_span_of_the_same_trace() {
        let parent = TraceContext::parse(TEXT).expect("a context");
        let child = parent.child();
        assert_eq!(child.trace_id(), parent.trace_id());
        assert_ne!(child.span, parent.span);
        assert_eq!(TraceContext::new_trace(0).trace_id(), format!("{:032x}", 1));
    }
}
