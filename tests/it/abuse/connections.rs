//! The connection limit.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use harness::instance::{Instance, Settings, runtimes};
use harness::process::Process;
use harness::serial::run_quietly;
use harness::sse::Stream;
use harness::wait::eventually_true;

/// The connection limit of the instances in these tests.
const MOST: usize = 4;

/// How long the test waits for an end that must not come.
const A_WHILE: Duration = Duration::from_millis(500);

/// The deadline of an answer that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Streams that ask to be opened at the same time. They are opened one after the other, within 4.5 s.
const CROWD: usize = 3_000;

fn ask(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).expect("the system accepts");
    send(&connection, "/livez");
    connection
}

fn send(mut connection: &TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.write_all(request.as_bytes()).expect("a request");
}

fn is_answered(mut connection: &TcpStream, within: Duration) -> bool {
    connection.set_read_timeout(Some(within)).expect("a time");
    let mut answer = [0; 1_024];
    match connection.read(&mut answer) {
        Ok(count) => answer[..count].starts_with(b"HTTP/1.1 200 "),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => panic!("neither an answer nor silence: {error}"),
    }
}

fn open_stream(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).expect("the system accepts");
    send(&connection, "/v1/events");
    assert!(is_answered(&connection, PATIENCE), "a stream");
    connection
}

/// Whether the service has closed the connection: the rest of what it sent ends before the read times out.
fn has_ended(mut connection: &TcpStream) -> bool {
    connection.set_read_timeout(Some(A_WHILE)).expect("a time");
    connection.read_to_end(&mut Vec::new()).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_takes_the_place_of_the_one_that_is_idle_for_longest() {
    let settings = Settings::new().with("PRESENCE_CONNECTIONS", &MOST.to_string());
    let instance = Instance::start(&settings).await;
    let silent = TcpStream::connect(instance.address()).expect("the system accepts");
    let answered = ask(instance.address());
    assert!(is_answered(&answered, PATIENCE));
    let streams: Vec<TcpStream> = (2..MOST).map(|_| open_stream(instance.address())).collect();
    let next = ask(instance.address());
    assert!(is_answered(&next, PATIENCE), "one more is served");
    assert!(has_ended(&silent), "it made room");
    assert!(
        instance.log().contains("PRESENCE_CONNECTIONS"),
        "the log names the setting"
    );
    let another = ask(instance.address());
    assert!(is_answered(&another, PATIENCE), "one more is served");
    assert!(has_ended(&answered), "it made room");
    send(&next, "/livez");
    assert!(is_answered(&next, PATIENCE), "it goes on");
    for stream in &streams {
        assert!(!has_ended(stream), "a stream is not idle");
    }
}

#[tokio::test]
async fn streams_leave_room_for_calls() {
    let settings = Settings::new().with("PRESENCE_CONNECTIONS", &MOST.to_string());
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let mut streams = Vec::new();
    for _ in 0..MOST - 1 {
        streams.push(Stream::open(&client, "").await);
    }
    let refused = client.get("/v1/events").await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert_eq!(client.get("/livez").await.status, 200);
    drop(streams);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_are_served_while_a_crowd_of_streams_opens() {
    run_quietly();
    let instance = Instance::start(&Settings::new()).await;
    let connect = |_| TcpStream::connect(instance.address()).expect("the system accepts");
    let crowd: Vec<TcpStream> = (0..CROWD).map(connect).collect();
    for stream in &crowd {
        send(stream, "/v1/events");
    }
    let probe = ask(instance.address());
    assert!(is_answered(&probe, PATIENCE), "a probe does not wait");
    instance.client().ping("alice").await;
    let mut last = crowd.last().expect("a crowd");
    last.set_nonblocking(true).expect("a socket");
    let waits = last.read(&mut [0; 16]).map_err(|error| error.kind());
    assert_eq!(waits, Err(ErrorKind::WouldBlock), "the crowd still waits");
    eventually_true("all streams are open", async || {
        instance.client().metric("presence_streams").await == Some(CROWD as u64)
    })
    .await;
}

#[tokio::test]
async fn the_metrics_say_how_many_are_open() {
    let instance = Instance::start(&Settings::new()).await;
    let _open: Vec<TcpStream> = (0..MOST).map(|_| ask(instance.address())).collect();
    // The request for the metrics is one more connection.
    eventually_true("all are counted", async || {
        instance.client().metric("presence_connections").await == Some(MOST as u64 + 1)
    })
    .await;
}

#[tokio::test]
async fn a_start_with_too_few_files_says_so_and_fails() {
    for limit in [12, 16, 20, 24] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\"")]);
        command.arg(env!("CARGO_BIN_EXE_presence"));
        command.env_clear().env("PRESENCE_LISTEN", "127.0.0.1:0");
        let mut process = Process::spawn("presence", &mut command);
        let status = process.exit().await;
        let log = process.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("open files"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_instance_raises_its_limit_of_open_files() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 128 && ulimit -Hn 256 && exec \"$0\""]);
    command.arg(env!("CARGO_BIN_EXE_presence"));
    command.env_clear().env("PRESENCE_LISTEN", "127.0.0.1:0");
    let mut process = Process::spawn("presence", &mut command);
    assert!(process.line().await.is_some(), "{}", process.log());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id()));
    let limits = limits.expect("a running process");
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<&str> = open_files.expect("a limit").split_whitespace().collect();
    assert_eq!(words[3..5], ["256", "256"], "soft and hard");
    let log = process.log();
    let left = 128_usize.saturating_sub(8 * runtimes()).max(1);
    assert!(
        log.contains(&format!("\"connections\":{left}")),
        "the log has the new limit: {log}"
    );
}
