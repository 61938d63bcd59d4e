//! `/dashboard`: a page for operators that shows the state of the service. The page is one file in the binary. It uses
//! only the calls of the API, with the key that the operator enters.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::response::IntoResponse;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::split_body::split_large_body;
use super::state::AppState;

const PAGE: &str = include_str!("dashboard/page.html");

/// The route of the page.
pub(super) fn routes() -> Router<Arc<AppState>> {
    let policy = policy();
    let page = async move || {
        let headers = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, policy.as_str()),
            (X_FRAME_OPTIONS, "DENY"),
            (REFERRER_POLICY, "no-referrer"),
        ];
        split_large_body((headers, PAGE).into_response())
    };
    Router::new().route("/dashboard", get(page))
}

/// The page runs only its own script and style, sends requests only to this service, and cannot be embedded. The script
/// cannot turn text into HTML.
fn policy() -> String {
    let (script, style) = (hash_of("script"), hash_of("style"));
    format!(
        "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'"
    )
}

/// The source expression that allows the text of the only element with this name.
fn hash_of(element: &str) -> String {
    let (_, rest) = PAGE.split_once(&format!("<{element}>")).unwrap_or_default();
    let (text, _) = rest
        .split_once(&format!("</{element}>"))
        .unwrap_or_default();
    let hash = digest(&SHA256, text.as_bytes());
    format!("sha256-{}", STANDARD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The greatest size of the page, in bytes.
    const MAX_BYTES: usize = 40_000;

    #[test]
    fn the_page_is_one_small_file_that_names_no_other_host() {
        assert!(PAGE.len() < MAX_BYTES, "{} bytes", PAGE.len());
        assert!(!PAGE.contains("//cdn") && !PAGE.contains("https://"));
        for element in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
            assert_eq!(
                PAGE.matches(&format!("<{element}>")).count(),
                1,
                "{element}"
            );
        }
        assert!(!PAGE.contains(" style=") && !PAGE.contains(" onclick="));
    }
}
