//! `/`: the name and the version of the service, and where to find more. A browser gets a page, other clients get JSON.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_FRAME_OPTIONS};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::json_line::JsonLine;
use super::media_type::accepts;
use super::state::AppState;
use crate::config::{Config, Switch};

/// The page contains no script, no style and no form.
const POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The service in JSON. A path is absent if the service does not serve it.
#[derive(Clone, Copy, Debug, Serialize)]
struct Home {
    name: &'static str,
    version: &'static str,
    openapi: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dashboard: Option<&'static str>,
}

/// The route of the page.
pub(super) fn routes(config: &Config) -> Router<Arc<AppState>> {
    let home = Home {
        name: NAME,
        version: VERSION,
        openapi: "/openapi.json",
        docs: (config.http.docs == Switch::On).then_some("/docs"),
        dashboard: config.has_dashboard().then_some("/dashboard"),
    };
    let page = page(&home);
    let answer = async move |headers: HeaderMap| -> Response {
        let vary = [(VARY, "accept")];
        if !accepts(&headers, "text/html") {
            return (vary, JsonLine(home)).into_response();
        }
        let headers = [
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_FRAME_OPTIONS, "DENY"),
            (REFERRER_POLICY, "no-referrer"),
        ];
        (vary, headers, Html(page)).into_response()
    };
    Router::new().route("/", get(answer))
}

/// The page. Its links are relative, so that they also work where a proxy serves the service below a path.
fn page(home: &Home) -> String {
    let link = |path: &str, text: &str| {
        let path = path.trim_start_matches('/');
        format!("<li><a href=\"{path}\">{text}</a></li>\n")
    };
    let mut links = String::new();
    if let Some(path) = home.dashboard {
        links += &link(path, "Dashboard");
    }
    if let Some(path) = home.docs {
        links += &link(path, "Documentation of the API");
    }
    links += &link(home.openapi, "OpenAPI document");
    links += &link("/livez", "Liveness");
    links += &link("/readyz", "Readiness");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Presence</title>\n</head>\n\
         <body>\n<main>\n<h1>Presence</h1>\n<p>Version {}. Shows which users are online.</p>\n\
         <ul>\n{links}</ul>\n</main>\n</body>\n</html>\n",
        home.version
    )
}
