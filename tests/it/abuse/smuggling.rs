//! Requests that a proxy and the service may split differently (request smuggling, RFC 9112, section 11.2). The service
//! must not find a request in what a proxy takes for a body.

use harness::instance::{Instance, Settings};
use harness::wait::PATIENCE;
use tokio::io::AsyncReadExt;
use tokio::time::{Duration, timeout};

/// The request in the body.
const HIDDEN: &str =
    "POST /v1/users/hidden/connect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";

/// How long the test waits for an answer to the hidden request.
const MOMENT: Duration = Duration::from_millis(300);

/// Ambiguous header lines. The body is `0`, an empty line, and the hidden request.
const AMBIGUOUS: [(&str, &str); 22] = [
    ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"),
    ("two lengths in one", "Content-Length: 5, 6\r\n"),
    ("a sign", "Content-Length: +5\r\n"),
    ("a negative length", "Content-Length: -5\r\n"),
    ("a hexadecimal length", "Content-Length: 0x5\r\n"),
    ("a length with a space", "Content-Length: 5 5\r\n"),
    (
        "a length beyond all bounds",
        "Content-Length: 99999999999999999999999\r\n",
    ),
    ("a space before the colon", "Content-Length : 5\r\n"),
    ("a folded line", "X: a\r\n Content-Length: 5\r\n"),
    ("no name", ": 5\r\n"),
    ("no colon", "Content-Length 5\r\n"),
    ("a NUL", "X: a\0b\r\n"),
    ("a bare CR", "X: a\rContent-Length: 5\r\n"),
    (
        "another coding last",
        "Transfer-Encoding: chunked, identity\r\n",
    ),
    ("an unknown coding", "Transfer-Encoding: xchunked\r\n"),
    ("a coding in quotes", "Transfer-Encoding: \"chunked\"\r\n"),
    (
        "a coding after a tab and a letter",
        "Transfer-Encoding:\tx chunked\r\n",
    ),
    (
        "two codings apart",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    ),
    (
        "a space before the colon of a coding",
        "Transfer-Encoding : chunked\r\n",
    ),
    (
        "a name with a bad byte",
        "Transfer\u{a0}Encoding: chunked\r\n",
    ),
    ("a second host", "Host: elsewhere\r\n"),
    ("a host that is no host", "Host: local host\r\n"),
];

/// Invalid chunked bodies.
const BAD_CHUNKS: [(&str, &str); 8] = [
    ("no number", "x\r\n"),
    ("a negative length", "-1\r\n"),
    ("a sign", "+1\r\na\r\n0\r\n\r\n"),
    ("0x", "0x1\r\na\r\n0\r\n\r\n"),
    ("a bare LF", "1\na\r\n0\r\n\r\n"),
    ("no end of the chunk", "1\r\nab\r\n0\r\n\r\n"),
    ("a length beyond all bounds", "fffffffffffffffff\r\na\r\n"),
    ("a line break in an extension", "1;a\nb\r\na\r\n0\r\n\r\n"),
];

/// The first answer, and everything that follows within [`MOMENT`].
async fn answers(instance: &Instance, request: &str) -> String {
    let mut connection = instance.told(request.as_bytes()).await;
    let (mut answers, mut bytes) = (Vec::new(), [0; 4_096]);
    let mut wait = PATIENCE;
    while let Ok(Ok(count @ 1..)) = timeout(wait, connection.read(&mut bytes)).await {
        answers.extend_from_slice(&bytes[..count]);
        wait = MOMENT;
    }
    String::from_utf8_lossy(&answers).into_owned()
}

fn statuses(answers: &str) -> Vec<&str> {
    let after_versions = answers.split("HTTP/1.1 ").skip(1);
    let words = after_versions.filter_map(|rest| rest.split(' ').next());
    // The detail of a problem also contains the version, without a number after it.
    words.filter(|word| word.parse::<u16>().is_ok()).collect()
}

#[tokio::test]
async fn an_ambiguous_request_is_refused_and_ends_its_connection() {
    let instance = Instance::start(&Settings::new()).await;
    for (what, header) in AMBIGUOUS {
        let request = format!(
            "POST /v1/users/alice/ping HTTP/1.1\r\nHost: localhost\r\n{header}\r\n0\r\n\r\n{HIDDEN}"
        );
        let answers = answers(&instance, &request).await;
        assert_eq!(
            statuses(&answers).first(),
            Some(&"400"),
            "{what}: {answers}"
        );
        assert!(!answers.contains("hidden"), "{what}: {answers}");
    }
    for (what, chunks) in BAD_CHUNKS {
        let request = format!(
            "POST /v1/users/alice/ping HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{HIDDEN}"
        );
        let answers = answers(&instance, &request).await;
        assert_eq!(statuses(&answers), ["400"], "{what}: {answers}");
    }
    // With both headers the chunks count, and the connection is closed (RFC 9112, section 6.3).
    let length = format!("Content-Length: {}\r\n", HIDDEN.len() + 5);
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (version, fields, expected) in [
        ("1.1", format!("{length}{chunked}"), "200"),
        ("1.1", format!("{chunked}{length}"), "200"),
        ("1.0", format!("{length}{chunked}"), "400"),
        ("1.0", chunked.to_owned(), "400"),
    ] {
        let request = format!(
            "POST /v1/users/alice/ping HTTP/{version}\r\nHost: localhost\r\n{fields}\r\n0\r\n\r\n{HIDDEN}"
        );
        let answers = answers(&instance, &request).await;
        assert_eq!(
            statuses(&answers),
            [expected],
            "{version} {fields}: {answers}"
        );
    }
    let hidden = instance.client().user("hidden").await;
    assert!(!hidden.online, "{hidden:?}");
}

#[tokio::test]
async fn a_bare_line_feed_ends_every_header_line() {
    // RFC 9112, section 2.2, allows a bare line feed. It must end every line, or else a field could be hidden.
    let instance = Instance::start(&Settings::new()).await;
    let request = format!(
        "POST /v1/users/alice/ping HTTP/1.1\nHost: localhost\nContent-Length: {}\n\n{HIDDEN}",
        HIDDEN.len()
    );
    let answers = answers(&instance, &request).await;
    assert_eq!(statuses(&answers), ["400"], "{answers}");
    assert!(!instance.client().user("hidden").await.online);
}
