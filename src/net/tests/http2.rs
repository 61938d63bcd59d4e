//! HTTP/2 connections.

use super::*;

/// An HTTP/2 client that may break the rules.
struct Http2 {
    stream: TcpStream,
    /// The flow control window of the connection.
    window: usize,
    /// The payload of the last frame.
    payload: Vec<u8>,
}

impl Http2 {
    async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[]).await
    }

    /// Connects as a client that has room for no byte of a response.
    async fn without_windows(address: SocketAddr) -> Self {
        Self::connect_with(address, &[0, 4, 0, 0, 0, 0]).await
    }

    async fn connect_with(address: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut client = Self {
            stream,
            window: 65_535,
            payload: Vec::new(),
        };
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.stream.write_all(hello).await.expect("a write");
        client.send(4, 0, 0, settings).await;
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
        self.payload = payload;
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

/// Asks for `/` on a new connection until it is answered, for a third of the time in which an unread response is given
/// up.
async fn is_served(address: SocketAddr) -> bool {
    let served = async {
        loop {
            let mut client = Http2::connect(address).await;
            client.ask(1, false).await;
            // The field `:status 200` (RFC 7541, appendix A).
            if client.is_answered(1).await && client.payload.starts_with(&[0x88]) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(10), served).await.is_ok()
}

#[tokio::test]
async fn http2_connections_with_unread_responses_make_room_for_others() {
    let router = Router::new().route("/", get(async || "fine"));
    let address = serving(vec![worker(router)]).await;
    let mut unread = Vec::new();
    for _ in 0..MemoryBudget::of(0).http2_connections() {
        let mut client = Http2::without_windows(address).await;
        client.ask(1, false).await;
        assert!(client.is_answered(1).await);
        unread.push(client);
    }
    assert!(is_served(address).await);
}

#[tokio::test]
async fn unread_http2_responses_give_their_memory_back_when_others_need_it() {
    let router = Router::new().route("/", get(async || "fine"));
    let address = serving(vec![worker(router)]).await;
    let requests = MemoryBudget::of(0).large_messages() / (8 * 1_024);
    let mut unread = Vec::new();
    for _ in 0..=requests / 100 {
        let mut client = Http2::without_windows(address).await;
        for number in (1..=199).step_by(2) {
            client.ask(number, false).await;
        }
        unread.push(client);
    }
    for client in &mut unread {
        assert!(client.is_answered(199).await);
    }
    assert!(is_served(address).await);
}
