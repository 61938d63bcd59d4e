//! The media types that the client of a request accepts.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// Whether `Accept` names `media_type`. A wildcard does not count.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    weight(headers, media_type) > 0.0
}

/// The weight with which `Accept` names `media_type`, 0 to 1. A wildcard does not count. A weight of zero means that
/// the media type is absent or not acceptable (RFC 9110, section 12.4.2).
pub(super) fn weight(headers: &HeaderMap, media_type: &str) -> f32 {
    let values = headers.get_all(ACCEPT).iter();
    let ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let weight = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().unwrap_or_default();
        if !named.eq_ignore_ascii_case(media_type) {
            return 0.0;
        }
        let stated = parts.find_map(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight?.parse().ok()
        });
        stated.unwrap_or(1.0)
    };
    ranges.map(weight).fold(0.0, f32::max)
}
