//! Open mode: no credential is configured. Callers on this machine have full access, and other callers have none.

use harness::client::send;
use harness::instance::{Instance, Settings};
use harness::wait::eventually_true;
use reqwest::Method;

use super::API_KEYS;

/// Requests of other callers: a host and further headers. Only open mode refuses them.
const FOREIGN: [(&str, &str); 12] = [
    ("evil.example", ""),
    ("evil.example:8080", ""),
    ("0.0.0.0:8080", ""),
    ("127.0.0.1.evil.example", ""),
    ("localhost", "Origin: http://evil.example\r\n"),
    ("localhost", "Origin: null\r\n"),
    ("localhost:8080", "Origin: http://localhost:3000\r\n"),
    ("localhost", "X-Forwarded-For: 127.0.0.1\r\n"),
    ("localhost", "x-forwarded-for: \r\n"),
    ("localhost", "Forwarded: for=127.0.0.1\r\n"),
    ("evil.example", "Origin: http://evil.example\r\n"),
    ("", ""),
];

/// Requests of local callers.
const LOCAL: [(&str, &str); 9] = [
    ("localhost", ""),
    ("LOCALHOST:8080", ""),
    ("localhost.:8080", ""),
    ("127.0.0.1:8080", ""),
    ("127.0.0.2", ""),
    ("[::1]:8080", ""),
    ("localhost:8080", "Origin: http://localhost:8080\r\n"),
    ("127.0.0.1:8080", "Origin: http://127.0.0.1:8080\r\n"),
    ("localhost:8080", "Origin: https://app.example.com\r\n"),
];

const CALLS: [&str; 6] = [
    "POST /v1/users/alice/connect",
    "POST /v1/users/alice/ping",
    "POST /v1/users/alice/disconnect",
    "GET /v1/online/count",
    "HEAD /v1/users/alice",
    "GET /metrics",
];

/// Makes a call and returns the whole answer.
async fn ask(instance: &Instance, call: &str, (host, headers): (&str, &str)) -> String {
    let request = format!("{call} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
    instance.answer_to(request.as_bytes()).await
}

fn settings() -> Settings {
    Settings::new().with("PRESENCE_CORS_ORIGINS", "https://app.example.com")
}

#[tokio::test]
async fn foreign_requests_are_refused_without_an_effect() {
    // Without and with allowed origins.
    for settings in [Settings::new(), settings()] {
        let instance = Instance::start(&settings).await;
        for call in CALLS {
            for foreign in FOREIGN {
                let answer = ask(&instance, call, foreign).await;
                assert!(
                    answer.starts_with("HTTP/1.1 403 "),
                    "{call} {foreign:?}: {answer}"
                );
                let named = answer.contains("urn:presence:problem:open-mode-local-only");
                assert!(
                    named || call.starts_with("HEAD"),
                    "{call} {foreign:?}: {answer}"
                );
            }
        }
        assert_eq!(instance.client().count().await, 0, "no user is online");
        let stream = ask(&instance, "GET /v1/events", FOREIGN[0]).await;
        assert!(stream.starts_with("HTTP/1.1 403 "), "{stream}");
        for call in [
            "GET /livez",
            "GET /readyz",
            "GET /openapi.json",
            "GET /docs/",
        ] {
            for foreign in FOREIGN {
                let answer = ask(&instance, call, foreign).await;
                assert!(
                    answer.starts_with("HTTP/1.1 200 "),
                    "{call} {foreign:?}: {answer}"
                );
            }
        }
    }
}

#[tokio::test]
async fn local_requests_and_allowed_origins_are_served() {
    let instance = Instance::start(&settings()).await;
    for call in CALLS {
        for local in LOCAL {
            let answer = ask(&instance, call, local).await;
            assert!(
                answer.starts_with("HTTP/1.1 200 "),
                "{call} {local:?}: {answer}"
            );
        }
    }
    let old = b"GET /v1/online/count HTTP/1.0\r\n\r\n";
    let answer = instance.answer_to(old).await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
}

#[tokio::test]
async fn the_start_warns_of_open_mode_and_the_refusal_names_the_remedy() {
    let instance = Instance::start(&Settings::new()).await;
    eventually_true("the warning", async || {
        instance
            .log()
            .contains("open mode: no credential is configured")
    })
    .await;
    let answer = ask(&instance, "GET /v1/online", FOREIGN[7]).await;
    for hint in ["X-Forwarded-For", "PRESENCE_ALLOW_ANONYMOUS=true"] {
        assert!(answer.contains(hint), "{answer}");
    }
}

#[tokio::test]
async fn with_credentials_or_anonymous_access_every_host_is_accepted() {
    let anyone = Settings::new().with("PRESENCE_ALLOW_ANONYMOUS", "true");
    let closed = Settings::new().with("PRESENCE_API_KEYS", API_KEYS);
    for (settings, status) in [(anyone, 200), (closed, 401)] {
        let instance = Instance::start(&settings).await;
        let request = instance.client().request(Method::GET, "/v1/online/count");
        let request = request.header("Host", "presence.example.com");
        let request = request.header("X-Forwarded-For", "1.2.3.4");
        let answer = send(request.header("Origin", "https://evil.example")).await;
        assert_eq!(answer.status, status);
        assert!(!instance.log().contains("open mode"), "{}", instance.log());
    }
}
