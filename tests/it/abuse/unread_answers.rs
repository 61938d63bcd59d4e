//! Answers that the client does not read.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::instance::{Instance, Settings};
use socket2::{Domain, Socket, Type};
use tokio::time::{Instant, sleep};

use super::http2;

/// The path of a large answer.
const PATH: &str = "/docs/swagger-ui-bundle.js";

/// The time-out for a client that reads nothing is 30 s, and the kernel has as long for its buffers.
const CUT_OFF: Duration = Duration::from_secs(75);

/// A stream with a maximum age of 1 s gets a little longer to send its end, and its client time to read it.
const DUE: Duration = Duration::from_secs(20);
const NOT_YET: Duration = Duration::from_secs(20);

/// Clients whose answers have 160 MiB together.
const CLIENTS: usize = 400;

/// The memory that a client may cost, in KiB: the buffer of its connection and a part of the answer.
const KIB_EACH: u64 = 320;

pub(super) fn ask_and_not_read(address: SocketAddr, request: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // With a small window the buffers fill early.
    socket.set_recv_buffer_size(4_096).expect("a size");
    socket.connect(&address.into()).expect("a connection");
    let mut connection = TcpStream::from(socket);
    connection.write_all(request.as_bytes()).expect("a write");
    connection
}

/// Whether the other side has closed the connection. Nothing is read.
fn is_given_up(connection: &TcpStream) -> bool {
    connection.set_nonblocking(true).expect("a socket");
    let error = connection.take_error().expect("a socket");
    let writes = (&*connection).write(b"x");
    error.is_some() || matches!(writes, Err(error) if error.kind() != ErrorKind::WouldBlock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_its_answer_is_cut_off_after_the_time_out() {
    let instance = Instance::start(&Settings::new()).await;
    let address = instance.address();
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let http1 = ask_and_not_read(address, &request);
    let mut over_http2 = http2::connect(address, 0);
    over_http2.write_all(&http2::get(1, PATH)).expect("a write");
    let began = Instant::now();
    let mut reset = false;
    while began.elapsed() < CUT_OFF {
        sleep(Duration::from_millis(250)).await;
        reset = reset || http2::was_reset(&mut over_http2);
        if reset && is_given_up(&http1) {
            assert!(began.elapsed() > NOT_YET, "cut off too soon");
            return;
        }
    }
    panic!("HTTP/2 was reset: {reset}; HTTP/1: {}", is_given_up(&http1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_over_http2_without_a_window_ends_at_its_maximum_age() {
    let settings = Settings::new().with("PRESENCE_STREAM_MAX_AGE", "1s");
    let instance = Instance::start(&settings).await;
    let mut connection = http2::connect(instance.address(), 0);
    let request = http2::get(1, "/v1/events?snapshot=true");
    connection.write_all(&request).expect("a write");
    let began = Instant::now();
    while !http2::was_reset(&mut connection) {
        assert!(began.elapsed() < DUE, "still open");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn unread_answers_share_one_copy_in_memory() {
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    let whole = client.get(PATH).await.body.len();
    assert!(
        whole as u64 > KIB_EACH * 1_024,
        "{whole} bytes are no large answer"
    );
    let before = instance.resident_kib();
    let mut unread = Vec::new();
    for _ in 0..CLIENTS {
        let request = format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        unread.push(instance.told(request.as_bytes()).await);
    }
    sleep(Duration::from_millis(500)).await;
    let grown = instance.resident_kib().saturating_sub(before);
    let most = KIB_EACH * CLIENTS as u64;
    assert!(grown < most, "{grown} KiB for {CLIENTS} clients");
    assert_eq!(client.get("/livez").await.status, 200);
}
