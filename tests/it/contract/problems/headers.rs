//! The headers of all answers, and requests that are refused for their `Host` header.

use harness::client::{Answer, Client, send};
use harness::instance::{Instance, Settings};
use harness::sse::Stream;
use reqwest::Method;
use serde_json::json;

use super::problem;

/// Checks the headers that keep a browser from guessing the type, caching the answer, and framing it in another page.
fn assert_safe(what: &str, answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
    let kept = answer.header("cache-control");
    assert!(kept.starts_with("no-store"), "{what}: {kept}");
    let policy = answer.header("content-security-policy");
    assert!(
        policy.contains("frame-ancestors 'none'"),
        "{what}: {policy}"
    );
    for name in [
        "x-content-type-options",
        "cache-control",
        "content-security-policy",
    ] {
        let count = answer.headers.get_all(name).iter().count();
        assert_eq!(count, 1, "{what}: {name}");
    }
}

async fn answers_of(client: &Client, origin: Option<&str>) -> Vec<(String, Answer)> {
    let mut answers = Vec::new();
    for (method, path) in [
        (Method::POST, "/v1/users/alice/connect"),
        (Method::POST, "/v1/users/alice/ping"),
        (Method::POST, "/v1/users/%00/ping"),
        (Method::GET, "/v1/users/alice"),
        (Method::HEAD, "/v1/users/alice"),
        (Method::GET, "/v1/online/count"),
        (Method::GET, "/v1/online?limit=0"),
        (Method::POST, "/v1/online"),
        (Method::GET, "/v1/events?snapshot=perhaps"),
        (Method::GET, "/v1/nothing"),
        (Method::DELETE, "/v1/online"),
        (Method::POST, "/v1/users/alice/disconnect"),
        (Method::GET, "/livez"),
        (Method::GET, "/readyz"),
        (Method::GET, "/metrics"),
        (Method::GET, "/openapi.json"),
        (Method::GET, "/docs"),
        (Method::GET, "/docs/"),
        (Method::GET, "/docs/swagger-ui.css"),
        (Method::GET, "/docs/nothing"),
        (Method::GET, "/docs/%ff"),
        (Method::GET, "/nothing"),
        (Method::OPTIONS, "/v1/users/alice/ping"),
    ] {
        let mut request = client.request(method.clone(), path);
        if let Some(origin) = origin {
            let asked = request.header("Origin", origin);
            request = asked.header("Access-Control-Request-Method", "POST");
        }
        answers.push((format!("{method} {path}"), send(request).await));
    }
    answers
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let origin = "https://app.example.com";
    for origin in [None, Some(origin)] {
        let settings = Settings::new();
        let settings = match origin {
            Some(origin) => settings.with("PRESENCE_CORS_ORIGINS", origin),
            None => settings,
        };
        let instance = Instance::start(&settings).await;
        for (what, answer) in answers_of(&instance.client(), origin).await {
            assert_safe(&what, &answer);
        }
    }
    let closed = Settings::new().with("PRESENCE_API_KEYS", "a:presence.read:0123456789abcdef");
    let closed = Instance::start(&closed).await;
    for (what, answer) in answers_of(&closed.client(), None).await {
        assert_safe(&what, &answer);
    }
}

#[tokio::test]
async fn a_stream_is_utf_8_and_not_to_be_transformed() {
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    let of_some = client
        .request(Method::POST, "/v1/events")
        .json(&json!({"userIds": ["a"]}));
    for request in [Stream::request(&client, ""), of_some] {
        let stream = Stream::send(request).await;
        let header = |name| stream.headers[name].to_str().expect("text");
        assert_eq!(header("content-type"), "text/event-stream; charset=utf-8");
        assert_eq!(header("cache-control"), "no-store, no-transform");
        assert_eq!(header("x-accel-buffering"), "no");
        assert_eq!(header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn the_page_of_the_documentation_can_be_shown_alone_and_loads_only_its_own_files() {
    let instance = Instance::start(&Settings::new()).await;
    for path in ["/docs/", "/docs/index.html", "/docs/swagger-ui-bundle.js"] {
        let answer = instance.client().get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("script-src 'self' 'unsafe"), "{policy}");
    }
}

#[tokio::test]
async fn the_documentation_can_be_disabled() {
    let settings = Settings::new().with("PRESENCE_DOCS", "off");
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    for path in [
        "/docs",
        "/docs/",
        "/docs/index.html",
        "/docs/swagger-ui-bundle.js",
    ] {
        problem(&client.get(path).await, 404);
    }
    assert_eq!(client.get("/openapi.json").await.status, 200);
}

/// The rest of a request line, the headers, and the expected status.
const HOSTS: [(&str, &str); 15] = [
    ("HTTP/1.1\r\nHost: localhost\r\n", "200"),
    ("HTTP/1.0\r\nHost: localhost\r\n", "200"),
    ("HTTP/1.0\r\n", "200"),
    ("HTTP/1.1\r\n", "400"),
    ("HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", "400"),
    (
        "HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n",
        "400",
    ),
    ("HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n", "400"),
    ("HTTP/1.1\r\nHost: localhost, evil.example\r\n", "400"),
    ("HTTP/1.1\r\nHost: localhost,evil.example\r\n", "400"),
    ("HTTP/1.1\r\nHost: user@localhost\r\n", "400"),
    ("HTTP/1.1\r\nHost: localhost/path\r\n", "400"),
    ("HTTP/1.1\r\nHost: localhost:80:80\r\n", "400"),
    ("HTTP/1.1\r\nHost: [::1\r\n", "400"),
    ("HTTP/1.1\r\nHost : localhost\r\n", "400"),
    (
        "HTTP/1.1\r\nHost: localhost\r\n Host: evil.example\r\n",
        "400",
    ),
];

/// A proxy and the service must agree on the host of a request.
#[tokio::test]
async fn a_request_with_a_missing_repeated_or_invalid_host_is_400() {
    let closed = Settings::new().with("PRESENCE_ALLOW_ANONYMOUS", "true");
    for settings in [Settings::new(), closed] {
        let instance = Instance::start(&settings).await;
        for (head, status) in HOSTS {
            for line in [
                "POST /v1/users/alice/ping",
                "GET /v1/online",
                "GET /livez",
                "GET /no",
            ] {
                let request = format!("{line} {head}Connection: close\r\n\r\n");
                let answer = instance.answer_to(request.as_bytes()).await;
                let expected = if status == "200" && line == "GET /no" {
                    "404"
                } else {
                    status
                };
                let version = if expected == "200" && head.starts_with("HTTP/1.0") {
                    "HTTP/1.0"
                } else {
                    "HTTP/1."
                };
                let start = answer.split(' ').take(2).collect::<Vec<_>>();
                assert!(
                    start[0].starts_with(version) && start[1] == expected,
                    "{request}{answer}"
                );
            }
        }
        let two =
            "POST /v1/users/alice/ping HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = instance.answer_to(two.as_bytes()).await;
        assert!(
            answer.contains("urn:presence:problem:invalid-host"),
            "{answer}"
        );
    }
}

/// The target in absolute form replaces the `Host` header (RFC 9112, section 3.2.2).
#[tokio::test]
async fn the_target_of_the_absolute_form_wins_over_the_host() {
    let settings = Settings::new().with("PRESENCE_ALLOW_ANONYMOUS", "true");
    let instance = Instance::start(&settings).await;
    for (target, host, status) in [
        ("http://localhost/v1/users/alice/ping", "localhost", "200"),
        ("http://elsewhere/v1/users/alice/ping", "localhost", "200"),
        (
            "http://localhost/v1/users/alice/ping",
            "localhost\r\nHost: localhost",
            "400",
        ),
        ("http:///v1/users/alice/ping", "localhost", "400"),
        ("localhost:80", "localhost", "404"),
        ("*", "localhost", "404"),
    ] {
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = instance.answer_to(request.as_bytes()).await;
        let got = answer.split(' ').nth(1);
        assert_eq!(got, Some(status), "{request}{answer}");
    }
}
