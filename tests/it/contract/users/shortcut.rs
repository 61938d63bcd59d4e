//! Some pings bypass the router when none of its layers applies. The answers are the same.

use harness::instance::{Instance, Settings};
use harness::wait::PATIENCE;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

const API_KEYS: &str = "app:presence.write:s3cret-key-of-the-app";

const METHODS: [&str; 7] = ["POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "post"];

/// The targets of pings and of similar requests.
const TARGETS: [&str; 22] = [
    "/v1/users/alice/ping",
    "/v1/users/alice/ping?",
    "/v1/users/alice/ping?connectionId=tab&x",
    "/v1/users/alice/ping?&&",
    "/v1/users/al%20ice/ping",
    "/v1/users/%F0%9F%98%80/ping",
    "/v1/users/a%2Fb/ping",
    "/v1/users/a%2fping/ping",
    "/v1/users/%ff/ping",
    "/v1/users/%00/ping",
    "/v1/users/%zz%/ping",
    "/v1/users/ping/ping",
    "/v1/users/a;b:c@d/ping",
    "http://localhost/v1/users/alice/ping",
    "/v1/users//ping",
    "/v1/users/ping",
    "/v1/users/a/b/ping",
    "/v1/users/alice/ping/",
    "/v1/users/alice/Ping",
    "/v1/users/alice/pin%67",
    "/v1/users/alice%2Fping",
    "//v1/users/alice/ping",
];

const BODIES: [&str; 6] = [
    "",
    "{}",
    "null",
    r#"{"connectionId":"tab"}"#,
    r#"{"connectionId":"no such/id"}"#,
    "[1",
];

/// The whole answer without the parts that depend on the time.
async fn answer(instance: &Instance, request: &str) -> String {
    let mut stream = instance.told(request.as_bytes()).await;
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    read.expect("it ends").expect("and cleanly");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("date: "))
        .collect();
    // The order of the headers does not matter.
    let head = lines
        .iter()
        .position(|line| line.is_empty())
        .expect("a head");
    lines[1..head].sort_unstable();
    let is_moment =
        |text: &str| text.len() == "2026-11-24T08:00:00.123Z".len() && text.ends_with('Z');
    let text = lines.join("\n");
    let parts: Vec<_> = text
        .split('"')
        .map(|part| if is_moment(part) { "" } else { part })
        .collect();
    parts.join("\"")
}

/// An instance that logs every request, for which no ping bypasses the router.
async fn with_router(settings: Settings) -> Instance {
    Instance::start(&settings.with("RUST_LOG", "debug")).await
}

#[tokio::test]
async fn a_ping_over_the_shortcut_has_the_answer_of_the_router() {
    let short = Instance::start(&Settings::new()).await;
    let long = with_router(Settings::new()).await;
    let mut pinged = 0;
    for method in METHODS {
        for target in TARGETS {
            for body in BODIES {
                let length = body.len();
                let request = format!(
                    "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                let answered = answer(&short, &request).await;
                assert_eq!(answered, answer(&long, &request).await, "{request}");
                pinged += usize::from(answered.contains("pingIntervalMs"));
            }
        }
    }
    // Eleven targets are pings of a valid id, with four valid bodies and one method.
    assert_eq!(pinged, 11 * 4, "most of them are no pings");
}

#[tokio::test]
async fn a_ping_over_the_shortcut_needs_the_same_credential() {
    let settings = || Settings::new().with("PRESENCE_API_KEYS", API_KEYS);
    let short = Instance::start(&settings()).await;
    let long = with_router(settings()).await;
    for (credential, status) in [
        ("", "401"),
        ("Authorization: Bearer s3cret-key-of-the-app\r\n", "200"),
        ("Authorization: Bearer s3cret-key-of-another\r\n", "401"),
        ("Authorization: Basic YTpi\r\n", "401"),
    ] {
        let request = format!(
            "POST /v1/users/alice/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{credential}\r\n"
        );
        let answered = answer(&short, &request).await;
        assert!(
            answered.starts_with(&format!("HTTP/1.1 {status}")),
            "{answered}"
        );
        assert_eq!(answered, answer(&long, &request).await, "{request}");
    }
}
