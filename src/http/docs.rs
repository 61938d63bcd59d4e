//! `/docs`: a page that shows the OpenAPI document with Swagger UI. The files are part of the binary.

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

use super::error::Error;
use super::split_body::split_large_body;
use super::state::AppState;

/// The page loads only files of this service, sends requests only to this service, and cannot be embedded. Swagger UI
/// needs inline styles, and images from `data:` URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// The headers of the page and of its files.
const PAGE_HEADERS: [(HeaderName, HeaderValue); 3] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

const INDEX: &str = "index.html";

/// The files of Swagger UI that the page needs.
const SWAGGER_FILES: [&str; 3] = [
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "favicon-32x32.png",
];

/// The routes of the page and of its files.
pub(super) fn routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/docs", get(async || Redirect::to("/docs/")))
        .route("/docs/", get(async || file(INDEX)))
        .route(
            "/docs/{*file}",
            get(async |name: Result<Path<String>, PathRejection>| {
                let Path(name) = name.map_err(|_| Error::NotFound)?;
                file(&name)
            }),
        )
}

fn file(name: &str) -> Result<Response, Error> {
    let own = |content_type: &'static str, text: &'static str| {
        let content_type = [(CONTENT_TYPE, content_type)];
        (content_type, PAGE_HEADERS, text).into_response()
    };
    Ok(match name {
        INDEX => own("text/html; charset=utf-8", include_str!("docs/index.html")),
        "page.js" => own(
            "text/javascript; charset=utf-8",
            include_str!("docs/page.js"),
        ),
        "page.css" => own("text/css; charset=utf-8", include_str!("docs/page.css")),
        name if SWAGGER_FILES.contains(&name) => swagger_file(name)?,
        _ => return Err(Error::NotFound),
    })
}

fn swagger_file(name: &str) -> Result<Response, Error> {
    let file = serve(name, Arc::new(Config::default()));
    let SwaggerFile {
        bytes,
        content_type,
        gzpipped,
        ..
    } = file
        .map_err(|error| Error::Internal(error.to_string()))?
        .ok_or(Error::NotFound)?;
    let bytes = match bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let mut response = (PAGE_HEADERS, Body::from(bytes)).into_response();
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_str(&content_type);
    headers.extend(content_type.ok().map(|value| (CONTENT_TYPE, value)));
    let gzip = gzpipped.then(|| HeaderValue::from_static("gzip"));
    headers.extend(gzip.map(|value| (CONTENT_ENCODING, value)));
    Ok(split_large_body(response))
}
