//! The media types that the client of a request accepts.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// Whether `Accept` names `media_type`. A wildcard does not count.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let names_type = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().unwrap_or_default();
        // A weight of zero means "not acceptable" (RFC 9110, section 12.4.2).
        let is_refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse() == Ok(0.0))
        });
        named.eq_ignore_ascii_case(media_type) && !is_refused
    };
    ranges.into_iter().any(names_type)
}
