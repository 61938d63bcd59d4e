//! `/docs`: Swagger UI, from the memory of the program.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{
    CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa_swagger_ui::{Config, SwaggerFile, serve};

use super::AppState;
use super::error::Error;

/// The page loads only its own files, sends requests only to this service, and is part of no other page. Swagger UI
/// sets styles in its HTML and has its pictures in its style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// The headers of the page and its files.
const PAGE_HEADERS: [(HeaderName, HeaderValue); 3] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// The page and its files; it shows the document at `document`.
pub(super) fn routes(document: &'static str) -> Router<Arc<AppState>> {
    let config = Arc::new(Config::from(document));
    let index = Arc::clone(&config);
    Router::new()
        .route("/docs", get(async || Redirect::to("/docs/")))
        .route("/docs/", get(async move || file("index.html", index)))
        .route(
            "/docs/{*file}",
            get(async move |name: Result<Path<String>, PathRejection>| {
                let Path(name) = name.map_err(|_| Error::NotFound)?;
                file(&name, config)
            }),
        )
}

fn file(name: &str, config: Arc<Config<'static>>) -> Result<Response, Error> {
    let file = serve(name, config).map_err(|error| Error::Internal(error.to_string()))?;
    let SwaggerFile {
        bytes,
        content_type,
        gzpipped,
        ..
    } = file.ok_or(Error::NotFound)?;
    let bytes = match bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        // The one file that says where the document is.
        Cow::Owned(bytes) => bytes.into(),
    };
    let mut response = (PAGE_HEADERS, Body::from(bytes)).into_response();
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_str(&content_type);
    headers.extend(content_type.ok().map(|value| (CONTENT_TYPE, value)));
    let gzip = gzpipped.then(|| HeaderValue::from_static("gzip"));
    headers.extend(gzip.map(|value| (CONTENT_ENCODING, value)));
    Ok(response)
}
