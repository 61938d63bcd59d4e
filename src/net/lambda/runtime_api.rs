//! The calls of the runtime API of AWS Lambda.

use std::time::{Duration, SystemTime};

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use lambda_runtime_api_client::body::Body;
use lambda_runtime_api_client::{BoxError, PooledClient, build_request};
use serde_json::json;
use thiserror::Error;

/// The version of the runtime API, in the path of every call.
const INVOCATION: &str = "/2018-06-01/runtime/invocation";

const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
const DEADLINE: &str = "lambda-runtime-deadline-ms";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";

/// A header that a response returns as it came, if it came. It keeps the response of an invocation that timed out from
/// the next invocation.
const INVOCATION_ID: &str = "lambda-runtime-invocation-id";

const STREAMED_HTTP: HeaderValue =
    HeaderValue::from_static("application/vnd.awslambda.http-integration-response");

/// A failed call of the runtime API.
#[derive(Debug, Error)]
pub(crate) enum RuntimeApiError {
    /// The runtime API is unreachable, or the connection broke.
    #[error("the runtime API is unreachable: {0}")]
    Unreachable(BoxError),
    /// The runtime API refused the call.
    #[error("the runtime API answered with status {0}")]
    Refused(StatusCode),
    /// The answer of the runtime API names no invocation.
    #[error("the runtime API sent an invocation without {REQUEST_ID}")]
    NoRequestId,
    /// A task ended by mistake.
    #[error("the task that answers invocations ended")]
    Ended,
}

/// An invocation of the function.
#[derive(Debug)]
pub(super) struct Invocation {
    request_id: String,
    invocation_id: Option<HeaderValue>,
    /// When the function times out. `None` if the runtime API does not state it.
    pub(super) deadline: Option<SystemTime>,
    /// The event, as JSON.
    pub(super) event: Bytes,
}

/// The runtime API.
#[derive(Debug)]
pub(super) struct RuntimeApi(PooledClient);

impl RuntimeApi {
    /// The runtime API at this address.
    pub(super) fn at(address: Uri) -> Self {
        Self(PooledClient::builder().with_endpoint(address).build())
    }

    /// Waits for the next invocation. While this waits, AWS may freeze the process for any time.
    pub(super) async fn next(&self) -> Result<Invocation, RuntimeApiError> {
        let call = build_request().uri(format!("{INVOCATION}/next"));
        let (parts, body) = self.call(call.body(Body::empty())).await?.into_parts();
        let event = body.collect().await;
        let event = event.map_err(|error| RuntimeApiError::Unreachable(error.into()))?;
        let request_id = text(&parts.headers, REQUEST_ID).ok_or(RuntimeApiError::NoRequestId)?;
        Ok(Invocation {
            request_id: request_id.to_owned(),
            invocation_id: parts.headers.get(INVOCATION_ID).cloned(),
            deadline: deadline(&parts.headers),
            event: event.to_bytes(),
        })
    }

    /// Sends the complete response to `invocation`.
    pub(super) async fn respond(
        &self,
        invocation: &Invocation,
        response: Body,
    ) -> Result<(), RuntimeApiError> {
        let call = invocation.call("response").body(response);
        self.call(call).await.map(drop)
    }

    /// Sends the response to `invocation` as it arises. Returns once the response is complete.
    pub(super) async fn stream<B>(
        &self,
        invocation: &Invocation,
        response: B,
    ) -> Result<(), RuntimeApiError>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let call = invocation.call("response");
        let call = call.header(RESPONSE_MODE, "streaming");
        let call = call.header(CONTENT_TYPE, STREAMED_HTTP);
        self.call(call.body(Body::new(response))).await.map(drop)
    }

    /// Reports that `invocation` failed because of `why`.
    pub(super) async fn fail(
        &self,
        invocation: &Invocation,
        why: &str,
    ) -> Result<(), RuntimeApiError> {
        let error = json!({"errorType": "InvalidEvent", "errorMessage": why});
        let call = invocation.call("error");
        let call = call.header(ERROR_TYPE, "Function.InvalidEvent");
        self.call(call.body(Body::from(error.to_string())))
            .await
            .map(drop)
    }

    async fn call(
        &self,
        call: Result<Request<Body>, axum::http::Error>,
    ) -> Result<Response<Incoming>, RuntimeApiError> {
        let call = call.map_err(|error| RuntimeApiError::Unreachable(error.into()))?;
        let answer = self.0.call(call).await;
        let answer = answer.map_err(RuntimeApiError::Unreachable)?;
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(RuntimeApiError::Refused(answer.status()))
        }
    }
}

impl Invocation {
    /// A call about this invocation.
    fn call(&self, what: &str) -> axum::http::request::Builder {
        let path = format!("{INVOCATION}/{}/{what}", self.request_id);
        let call = build_request().method(Method::POST).uri(path);
        match &self.invocation_id {
            Some(id) => call.header(INVOCATION_ID, id),
            None => call,
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn deadline(headers: &HeaderMap) -> Option<SystemTime> {
    let millis = text(headers, DEADLINE)?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}
