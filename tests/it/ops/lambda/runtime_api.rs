//! The runtime API of AWS Lambda, with what the emulator does not send: deadlines on the clock, invocation ids, and
//! events that are no requests.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use harness::wait::PATIENCE;

/// A runtime API for one function that answers one invocation after another.
pub(super) struct RuntimeApi {
    listener: TcpListener,
    connection: Mutex<Option<Connection>>,
}

/// The connection of the function.
enum Connection {
    /// The function asks for an invocation.
    Waiting(BufReader<TcpStream>),
    /// The function has answered an invocation.
    Answered(BufReader<TcpStream>),
}

/// What the function sent about an invocation.
pub(super) struct Invoked {
    pub(super) head: String,
    pub(super) body: String,
}

/// The event of a request to a function URL.
pub(super) fn event(method: &str, path: &str) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "abc.lambda-url.eu-west-1.on.aws", "x-forwarded-for": "203.0.113.7"},
        "requestContext": {"http": {"method": method, "path": path, "protocol": "HTTP/1.1"}},
        "isBase64Encoded": false,
    })
}

impl RuntimeApi {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self {
            listener,
            connection: Mutex::new(None),
        }
    }

    /// Host and port, as AWS sets them.
    pub(super) fn address(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    /// Waits until the function takes an invocation, and returns what the function sends about it.
    pub(super) async fn invoke(&self, event: &Value, timeout_ms: u64) -> Invoked {
        let invoked = timeout(PATIENCE, self.exchange(event, timeout_ms)).await;
        invoked.expect("an answer of the function")
    }

    /// Waits until the function asks for its next invocation.
    pub(super) async fn until_next(&self) {
        let mut held = self.connection.lock().await;
        let connection = timeout(PATIENCE, self.asked(held.take())).await;
        let connection = connection.expect("a request for an invocation");
        *held = Some(Connection::Waiting(connection));
    }

    /// The connection on which the function asks for its next invocation.
    async fn asked(&self, held: Option<Connection>) -> BufReader<TcpStream> {
        let mut connection = match held {
            Some(Connection::Waiting(connection)) => return connection,
            Some(Connection::Answered(connection)) => connection,
            None => BufReader::new(self.listener.accept().await.expect("a connection").0),
        };
        let head = read_head(&mut connection).await;
        assert!(
            head.starts_with("GET /2018-06-01/runtime/invocation/next "),
            "{head}"
        );
        connection
    }

    async fn exchange(&self, event: &Value, timeout_ms: u64) -> Invoked {
        let mut held = self.connection.lock().await;
        let mut connection = self.asked(held.take()).await;
        let deadline = SystemTime::now() + Duration::from_millis(timeout_ms);
        let deadline = deadline.duration_since(SystemTime::UNIX_EPOCH);
        let deadline = deadline.expect("a time").as_millis();
        let event = event.to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: 1\r\nlambda-runtime-invocation-id: 7\r\n\
             lambda-runtime-deadline-ms: {deadline}\r\ncontent-length: {}\r\n\r\n{event}",
            event.len()
        );
        write(&mut connection, &answer).await;
        let head = read_head(&mut connection).await;
        let body = read_body(&mut connection, &head).await;
        write(
            &mut connection,
            "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        *held = Some(Connection::Answered(connection));
        Invoked { head, body }
    }
}

async fn write(connection: &mut BufReader<TcpStream>, text: &str) {
    let written = connection.get_mut().write_all(text.as_bytes()).await;
    written.expect("a write");
}

async fn read_line(connection: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    let read = connection.read_line(&mut line).await;
    assert!(
        read.expect("a read") > 0,
        "the function closed the connection"
    );
    line
}

async fn read_head(connection: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    loop {
        let line = read_line(connection).await;
        if line == "\r\n" {
            return head;
        }
        head.push_str(&line);
    }
}

async fn read_body(connection: &mut BufReader<TcpStream>, head: &str) -> String {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let length = fields.find(|field| field.0.eq_ignore_ascii_case("content-length"));
    if let Some((_, length)) = length {
        return read_text(connection, length.trim().parse().expect("a number")).await;
    }
    let mut body = String::new();
    loop {
        let size = read_line(connection).await;
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        let chunk = read_text(connection, size).await;
        read_line(connection).await;
        if size == 0 {
            return body;
        }
        body.push_str(&chunk);
    }
}

async fn read_text(connection: &mut BufReader<TcpStream>, bytes: usize) -> String {
    let mut text = vec![0; bytes];
    connection.read_exact(&mut text).await.expect("a body");
    String::from_utf8(text).expect("UTF-8")
}
