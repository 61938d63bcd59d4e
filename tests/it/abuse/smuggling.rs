//! Requests that two readers may take for different ones (RFC 9112, section 11.2).

use harness::instance::{Instance, Settings};
use harness::wait::PATIENCE;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// What is hidden in the requests: whoever is online afterwards was pinged by one of them.
const HIDDEN: &str =
    "POST /v1/users/smuggled/ping HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";

/// Each is refused, or takes what is hidden for a body.
fn requests() -> Vec<(&'static str, String)> {
    let post = "POST /v1/users/alice/ping HTTP/1.1\r\nHost: localhost\r\n";
    let hidden = HIDDEN.len();
    let chunk = format!("{hidden:x}\r\n{HIDDEN}\r\n0\r\n\r\n");
    let of = |fields: &str, body: &str| format!("{post}{fields}\r\n{body}");
    let lengths = format!("Content-Length: 0\r\nContent-Length: {hidden}\r\n");
    vec![
        (
            "a length and chunks",
            of(
                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
                &chunk,
            ),
        ),
        (
            "chunks and a length",
            of(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                &chunk,
            ),
        ),
        ("two lengths", of(&lengths, HIDDEN)),
        (
            "a list of lengths",
            of(&format!("Content-Length: 0, {hidden}\r\n"), HIDDEN),
        ),
        ("a signed length", of("Content-Length: +0\r\n", HIDDEN)),
        (
            "chunks that are not the last coding",
            of("Transfer-Encoding: chunked, identity\r\n", &chunk),
        ),
        (
            "an unknown coding",
            of("Transfer-Encoding: xchunked\r\n", &chunk),
        ),
        (
            "a space before the colon",
            of("Transfer-Encoding : chunked\r\n", &chunk),
        ),
        (
            "a folded field",
            of("X-Fold: a\r\n Content-Length: 0\r\n", HIDDEN),
        ),
        (
            "a carriage return in a value",
            of("X-Bare: a\rContent-Length: 0\r\n", HIDDEN),
        ),
        ("a null in a value", of("X-Null: a\0\r\n", HIDDEN)),
        (
            "a negative chunk",
            of("Transfer-Encoding: chunked\r\n", &format!("-1\r\n{HIDDEN}")),
        ),
        (
            "a chunk too large for any number",
            of(
                "Transfer-Encoding: chunked\r\n",
                &format!("fffffffffffffffff\r\n{HIDDEN}"),
            ),
        ),
        (
            "chunks over HTTP/1.0",
            of("Transfer-Encoding: chunked\r\n", &chunk)
                .replace("HTTP/1.1\r\nHost", "HTTP/1.0\r\nHost"),
        ),
    ]
}

#[tokio::test]
async fn nothing_is_smuggled_in() {
    let instance = Instance::start(&Settings::new()).await;
    for (name, request) in requests() {
        let mut connection = instance.told(request.as_bytes()).await;
        let mut answers = Vec::new();
        let mut bytes = [0; 4_096];
        // What is refused is closed; what is answered is kept, and nothing more may come.
        let read = async {
            while answers.is_empty() {
                match connection.read(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => answers.extend_from_slice(&bytes[..count]),
                }
            }
        };
        timeout(PATIENCE, read).await.expect("an answer or the end");
        let user = instance.client().user("smuggled").await;
        let answers = String::from_utf8_lossy(&answers);
        assert!(!user.online, "{name}: {answers}");
    }
}

#[tokio::test]
async fn a_bare_line_feed_ends_a_line_for_every_field_alike() {
    // RFC 9112, section 2.2, allows it. It must not hide a field, which would be smuggling.
    let instance = Instance::start(&Settings::new()).await;
    let request = format!(
        "POST /v1/users/alice/ping HTTP/1.1\nHost: localhost\nContent-Length: {}\n\n{HIDDEN}",
        HIDDEN.len()
    );
    let mut connection = instance.told(request.as_bytes()).await;
    let mut bytes = [0; 4_096];
    let count = timeout(PATIENCE, connection.read(&mut bytes)).await;
    let count = count.expect("an answer").expect("an answer");
    let answer = String::from_utf8_lossy(&bytes[..count]);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(!instance.client().user("smuggled").await.online);
}
