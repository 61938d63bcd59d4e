//! Sends a webhook and judges the response.

use std::time::{Duration, SystemTime};

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs::default_provider;
use tokio::time::timeout;

use super::batch::Webhook;
use super::receiver::Receiver;
use crate::config::InvalidSetting;
use crate::outgoing::with_causes;
use crate::telemetry::{TRACEPARENT, TraceContext};

/// The time limit of a delivery, from the connect to the end of the response.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest accepted response body, in bytes. The content is ignored.
const MAX_RESPONSE_BYTES: usize = 64 * 1_024;

/// After this time a receiver that answered 410 gets another attempt. Also the longest `Retry-After` that counts.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// Why a delivery failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The cause, for the log. It contains neither the URL nor a part of the response body.
    pub(super) cause: String,
    /// When the receiver wants the next attempt.
    pub(super) retry_after: Option<Duration>,
}

/// An HTTP client for all receivers.
#[derive(Clone, Debug)]
pub(super) struct WebhookClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl WebhookClient {
    /// A client that trusts the public certificate authorities.
    pub(super) fn new() -> Result<Self, InvalidSetting> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(default_provider())
            .map_err(|error| InvalidSetting::new("PRESENCE_WEBHOOKS", error.to_string()))?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Sends a webhook to its receiver as a span of `trace`. Succeeds if the receiver answers with a status 2xx within
    /// ten seconds.
    pub(super) async fn deliver(
        &self,
        receiver: &Receiver,
        webhook: &Webhook,
        trace: TraceContext,
    ) -> Result<(), Failure> {
        let request = request(receiver, webhook, trace).map_err(Failure::of)?;
        match timeout(DELIVERY_TIMEOUT, self.exchange(request)).await {
            Ok(delivered) => delivered,
            Err(_) => Err(Failure::of("no whole response within 10 s")),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(), Failure> {
        let response = self.0.request(request).await;
        let response = response.map_err(|error| Failure::of(with_causes(&error)))?;
        let refusal = refusal(&response);
        let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES);
        let read = body.collect().await;
        match refusal {
            Some(failure) => Err(failure),
            None => read
                .map(drop)
                .map_err(|error| Failure::of(error.to_string())),
        }
    }
}

impl Failure {
    fn of(cause: impl ToString) -> Self {
        Self {
            cause: cause.to_string(),
            retry_after: None,
        }
    }
}

/// The signed request. Its timestamp is that of the attempt, so that a receiver can refuse an old webhook that somebody
/// repeats.
fn request(
    receiver: &Receiver,
    webhook: &Webhook,
    trace: TraceContext,
) -> Result<Request<Full<Bytes>>, axum::http::Error> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let signatures = receiver.keys.iter();
    let signatures = signatures.map(|key| key.sign(&webhook.id, now, &webhook.body));
    Request::post(&receiver.url)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("presence/", env!("CARGO_PKG_VERSION")))
        .header(TRACEPARENT, trace.to_string())
        .header("webhook-id", &webhook.id)
        .header("webhook-timestamp", now)
        .header(
            "webhook-signature",
            signatures.collect::<Vec<_>>().join(" "),
        )
        .body(Full::new(webhook.body.clone()))
}

/// The failure that the head of a response means, if any. A redirect is a failure.
fn refusal(response: &Response<Incoming>) -> Option<Failure> {
    let status = response.status();
    if status.is_success() {
        return None;
    }
    let retry_after = match status {
        StatusCode::GONE => Some(LONGEST_PAUSE),
        _ => retry_after(response.headers()),
    };
    Some(Failure {
        cause: format!("status {}", status.as_u16()),
        retry_after,
    })
}

/// The pause of `Retry-After`, in seconds or until a date (RFC 9110, section 10.2.3); at most an hour.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_in_seconds_or_until_a_date() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().expect("a header"));
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("999999"), Some(LONGEST_PAUSE));
        let soon = SystemTime::now() + Duration::from_secs(90);
        let pause = read(&httpdate::fmt_http_date(soon)).expect("a date");
        assert!((80..=90).contains(&pause.as_secs()), "{pause:?}");
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}
