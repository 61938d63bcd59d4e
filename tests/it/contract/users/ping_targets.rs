//! Which request targets are pings.

use harness::instance::{Instance, Settings};

/// Targets of pings.
const PINGS: [&str; 11] = [
    "/v1/users/alice/ping",
    "/v1/users/alice/ping?",
    "/v1/users/alice/ping?&&",
    "/v1/users/al%20ice/ping",
    "/v1/users/%F0%9F%98%80/ping",
    "/v1/users/a%2Fb/ping",
    "/v1/users/a%2fping/ping",
    "/v1/users/%zz%/ping",
    "/v1/users/ping/ping",
    "/v1/users/a;b:c@d/ping",
    "http://localhost/v1/users/alice/ping",
];

/// Pings that are refused because a part of the target is invalid.
const INVALID_PINGS: [&str; 4] = [
    "/v1/users/alice/ping?connectionId=tab&x",
    "/v1/users/%ff/ping",
    "/v1/users/%00/ping",
    "/v1/users//ping",
];

/// Targets that no call has.
const UNKNOWN: [&str; 5] = [
    "/v1/users/a/b/ping",
    "/v1/users/alice/ping/",
    "/v1/users/alice/Ping",
    "/v1/users/alice/pin%67",
    "//v1/users/alice/ping",
];

/// Targets of the state of one user, which has no `POST`.
const USERS: [&str; 2] = ["/v1/users/alice%2Fping", "/v1/users/ping"];

/// The response to `method target` with `body`.
async fn answer(instance: &Instance, method: &str, target: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    instance.answer_to(request.as_bytes()).await
}

#[tokio::test]
async fn a_ping_is_recognized_by_its_path_as_sent() {
    let instance = Instance::start(&Settings::new()).await;
    for target in PINGS {
        for body in ["", "{}", "null", r#"{"connectionId":"tab"}"#] {
            let answered = answer(&instance, "POST", target, body).await;
            assert!(
                answered.starts_with("HTTP/1.1 200 "),
                "{target}: {answered}"
            );
            assert!(answered.contains("pingIntervalMs"), "{target}: {answered}");
        }
        let answered = answer(&instance, "GET", target, "").await;
        assert!(
            answered.starts_with("HTTP/1.1 405 "),
            "{target}: {answered}"
        );
    }
    for (targets, status) in [
        (&INVALID_PINGS[..], 400),
        (&UNKNOWN[..], 404),
        (&USERS[..], 405),
    ] {
        for target in targets {
            let answered = answer(&instance, "POST", target, "").await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answered.starts_with(&expected), "{target}: {answered}");
        }
    }
}
