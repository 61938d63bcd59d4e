//! Raw HTTP/2 frames of a malicious client (RFC 9113).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// The connection preface.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const DATA: u8 = 0;

/// The error code for a client that sends frames without requests (RFC 9113, section 7).
const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 0xb];

/// The flag of an acknowledgement.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Indices of the static table (RFC 7541, appendix A): `:method GET` and `:method POST`.
const GET: u8 = 0x82;
const POST: u8 = 0x83;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A string literal without compression (RFC 7541, section 5.2), shorter than 127 bytes.
fn text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short text");
    [&[length], text.as_bytes()].concat()
}

/// A complete `GET path`.
pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(GET, path))
}

/// A `POST path` whose body follows.
pub(super) fn post(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head(POST, path))
}

/// The head of a request for `path`.
fn head(method: u8, path: &str) -> Vec<u8> {
    // Indices of the static table: `:scheme http`, and the names of `:path` and `:authority`.
    [
        vec![method, 0x86, 0x04],
        text(path),
        vec![0x01],
        text("localhost"),
    ]
    .concat()
}

/// A SETTINGS frame with the initial window of each stream.
fn settings(window: u32) -> Vec<u8> {
    let payload = [&[0, 4], &window.to_be_bytes()[..]].concat();
    frame(SETTINGS, 0, 0, &payload)
}

/// Frames that a client may send, but not endlessly.
pub(super) fn floods() -> [(&'static str, Vec<u8>); 7] {
    [
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 16])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("PING acknowledged", frame(PING, ACK, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("empty DATA", frame(DATA, 0, 1, &[])),
        ("unknown", frame(0xfa, 0, 0, &[])),
    ]
}

/// A connection after the handshake, with a small receive buffer.
pub(super) fn connect(address: SocketAddr, window: u32) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a size");
    socket.set_send_buffer_size(65_536).expect("a size");
    socket.connect(&address.into()).expect("a connection");
    let mut connection = TcpStream::from(socket);
    let hello = [PREFACE, &settings(window)].concat();
    connection.write_all(&hello).expect("a write");
    let patience = Some(Duration::from_millis(500));
    connection.set_write_timeout(patience).expect("a time");
    connection
}

/// Sends `what` until `most` bytes were sent or the service closes. Returns whether the service closed, and its
/// answers.
pub(super) fn flood(mut connection: TcpStream, what: &[u8], most: usize) -> (bool, Vec<u8>) {
    let batch = what.repeat(16_384 / what.len());
    let mut reading = connection.try_clone().expect("a file");
    let reader = std::thread::spawn(move || {
        let mut answered = Vec::new();
        // The connection may end with a reset.
        let _ = reading.read_to_end(&mut answered);
        answered
    });
    let mut sent = 0;
    let ended = loop {
        match connection.write(&batch) {
            Ok(count) => sent += count,
            Err(_) => break true,
        }
        if sent > most {
            break false;
        }
    };
    let _ = connection.shutdown(std::net::Shutdown::Both);
    (ended, reader.join().expect("no panic"))
}

/// Whether the frames contain a GOAWAY with ENHANCE_YOUR_CALM.
pub(super) fn was_told_to_be_calm(mut frames: &[u8]) -> bool {
    while let [a, b, c, kind, _, _, _, _, _, ..] = *frames {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = frames.get(9..9 + length).unwrap_or_default();
        if kind == GOAWAY && payload.get(4..8) == Some(&ENHANCE_YOUR_CALM) {
            return true;
        }
        frames = frames.get(9 + length..).unwrap_or_default();
    }
    false
}

/// Reads what has arrived, answers PING frames, and returns whether a stream was reset or the connection closed.
pub(super) fn was_reset(connection: &mut TcpStream) -> bool {
    connection.set_nonblocking(true).expect("a socket");
    let mut bytes = [0; 16_384];
    let mut rest = match connection.read(&mut bytes) {
        Ok(0) => return true,
        Ok(count) => &bytes[..count],
        Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
    };
    while let [a, b, c, kind, flags, _, _, _, _, ..] = *rest {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = rest.get(9..9 + length).unwrap_or_default();
        match kind {
            RST_STREAM => return true,
            PING if flags == 0 => {
                let acknowledged = connection.write_all(&frame(PING, 1, 0, payload));
                acknowledged.expect("a write");
            }
            _ => {}
        }
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    false
}
