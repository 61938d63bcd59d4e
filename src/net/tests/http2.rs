//! HTTP/2 connections.

use super::*;

/// An HTTP/2 client that may break the rules.
struct Http2 {
    stream: TcpStream,
    /// The flow control window of the connection.
    window: usize,
}

impl Http2 {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut client = Self {
            stream,
            window: 65_535,
        };
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.stream.write_all(hello).await.expect("a write");
        client.send(4, 0, 0, &[]).await;
        client
    }

    async fn send(&mut self, kind: u8, flags: u8, number: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short frame");
        let header = [&length.to_be_bytes()[1..], &[kind, flags, 0, 0, 0, number]].concat();
        // A closed connection is detected by the next read.
        let _ = self.stream.write_all(&[&header, payload].concat()).await;
    }

    /// The type and the stream of the next frame, or `None` at the end.
    async fn frame(&mut self) -> Option<(u8, u8)> {
        let mut header = [0; 9];
        let read = timeout(Duration::from_secs(5), self.stream.read_exact(&mut header)).await;
        read.expect("a frame").ok()?;
        let [a, b, c, kind, _, d, _, _, number] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        if let (8, 0, 0, &[a, b, c, d]) = (kind, number, d, &payload[..]) {
            self.window += u32::from_be_bytes([a, b, c, d]) as usize;
        }
        Some((kind, number))
    }

    /// Sends a request for `/`: a GET, or a POST whose body follows.
    async fn ask(&mut self, number: u8, has_body: bool) {
        let method = if has_body { 0x83 } else { 0x82 };
        let fields = [&[method, 0x86, 0x84, 0x01, 9], &b"localhost"[..]].concat();
        let flags = if has_body { 4 } else { 5 };
        self.send(1, flags, number, &fields).await;
    }

    /// Whether a response begins.
    async fn is_answered(&mut self, number: u8) -> bool {
        while let Some((kind, of)) = self.frame().await {
            if kind == 1 && of == number {
                return true;
            }
        }
        false
    }
}

#[tokio::test]
async fn unread_bodies_do_not_end_a_shared_connection() {
    const PIECE: usize = 16_000;
    let router = Router::new().route("/", get(async || "fine").post(async || "not read"));
    let address = serving(vec![worker(router)]).await;
    let mut client = Http2::connect(address).await;
    for number in (1..=81).step_by(2) {
        while client.window < 2 * PIECE {
            client.frame().await.expect("a frame");
        }
        client.ask(number, true).await;
        for _ in 0..2 {
            client.send(0, 0, number, &[0; PIECE]).await;
            client.window -= PIECE;
        }
        assert!(client.is_answered(number).await, "request {number}");
    }
    client.ask(101, false).await;
    assert!(client.is_answered(101).await);
}

#[tokio::test]
async fn idle_http2_connections_make_room_for_new_ones() {
    let router = Router::new().route("/", get(async || "fine"));
    let address = serving(vec![worker(router)]).await;
    let mut idle = Vec::new();
    for _ in 0..MemoryBudget::of(0).http2_connections() + 5 {
        let mut client = Http2::connect(address).await;
        client.ask(1, false).await;
        assert!(client.is_answered(1).await);
        idle.push(client);
    }
    let longest = idle.first_mut().expect("a client");
    let mut is_told = false;
    while let Some((kind, _)) = longest.frame().await {
        is_told |= kind == 7;
    }
    assert!(is_told, "the client receives GOAWAY");
    let last = idle.last_mut().expect("a client");
    last.ask(3, false).await;
    assert!(last.is_answered(3).await);
}
