//! From the event of an invocation to a request.

use std::collections::HashMap;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;

use crate::http::error::Error;

/// The event of a request to a function URL or an HTTP API, in the payload format 2.0 of AWS.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpEvent {
    /// The path, with its percent-encoding.
    raw_path: String,
    #[serde(default)]
    raw_query_string: Option<String>,
    /// The values of a field that repeats are joined by commas.
    #[serde(default)]
    headers: HashMap<String, String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
    request_context: RequestContext,
}

#[derive(Debug, Deserialize)]
struct RequestContext {
    http: HttpContext,
}

#[derive(Debug, Deserialize)]
struct HttpContext {
    method: String,
}

/// An event that is not a request.
#[derive(Debug, Error)]
pub(super) enum InvalidEvent {
    /// The event has another shape.
    #[error("the event is not a request to a function URL (payload format 2.0): {0}")]
    Shape(#[from] serde_json::Error),
    /// The body is not what the event says.
    #[error("the body of the event is not Base64: {0}")]
    Body(#[from] base64::DecodeError),
}

/// Reads an event. The inner error is the response to a request that a client connection would refuse too.
pub(super) fn request(event: &[u8]) -> Result<Result<Request<Body>, Error>, InvalidEvent> {
    let event: HttpEvent = serde_json::from_slice(event)?;
    let body = match event.body {
        Some(body) if event.is_base64_encoded => STANDARD.decode(body)?.into(),
        Some(body) => Body::from(body),
        None => Body::empty(),
    };
    let target = match event.raw_query_string {
        Some(query) if !query.is_empty() => format!("{}?{query}", event.raw_path),
        _ => event.raw_path,
    };
    let method = event.request_context.http.method;
    let request = Request::builder().method(&*method).uri(target).body(body);
    Ok(with_headers(request, event.headers))
}

fn with_headers(
    request: Result<Request<Body>, axum::http::Error>,
    fields: HashMap<String, String>,
) -> Result<Request<Body>, Error> {
    let mut request = request.map_err(|_| Error::NotHttp)?;
    for (name, value) in fields {
        let name = HeaderName::try_from(name).map_err(|_| Error::NotHttp)?;
        let value = HeaderValue::try_from(value).map_err(|_| Error::NotHttp)?;
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    fn event(path: &str, query: Option<&str>, body: Option<&str>, is_base64: bool) -> Vec<u8> {
        let event = json!({
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": query,
            "headers": {"host": "x.lambda-url.eu-west-1.on.aws", "content-type": "application/json"},
            "requestContext": {"http": {"method": "POST", "path": path}},
            "body": body,
            "isBase64Encoded": is_base64,
        });
        event.to_string().into_bytes()
    }

    async fn body_of(request: Request<Body>) -> Vec<u8> {
        let body = request.into_body().collect().await;
        body.expect("a body in memory").to_bytes().to_vec()
    }

    #[tokio::test]
    async fn an_event_becomes_the_request_that_the_client_sent() {
        let path = "/v1/users/a%2Fb%20..%2f/ping";
        let event = event(path, Some("x=a%2Cb&y"), Some("{\"a\":\"ü\"}"), false);
        let request = request(&event).expect("a request").expect("valid");
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri().to_string(), format!("{path}?x=a%2Cb&y"));
        assert_eq!(request.headers()["host"], "x.lambda-url.eu-west-1.on.aws");
        assert_eq!(body_of(request).await, "{\"a\":\"ü\"}".as_bytes());
    }

    #[tokio::test]
    async fn a_binary_body_is_decoded() {
        let event = event("/", None, Some("AP8="), true);
        let request = request(&event).expect("a request").expect("valid");
        assert_eq!(request.uri(), "/");
        assert_eq!(body_of(request).await, [0, 255]);
    }

    #[test]
    fn a_path_with_dots_is_not_normalized() {
        let event = event("/v1/users/%2E%2E/ping", None, None, false);
        let request = request(&event).expect("a request").expect("valid");
        assert_eq!(request.uri().path(), "/v1/users/%2E%2E/ping");
    }

    #[test]
    fn other_events_are_not_requests() {
        for event in [
            json!({}),
            json!([]),
            json!({"source": "aws.events"}),
            Value::Null,
        ] {
            let error = request(event.to_string().as_bytes()).err();
            assert!(error.is_some_and(|error| error.to_string().contains("payload format 2.0")));
        }
        let event = event("/", None, Some("not base64!"), true);
        assert!(matches!(request(&event), Err(InvalidEvent::Body(_))));
    }

    #[test]
    fn a_request_that_is_not_http_is_refused() {
        let event = event("/a b", None, None, false);
        assert!(matches!(request(&event), Ok(Err(Error::NotHttp))));
    }
}
