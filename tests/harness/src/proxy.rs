//! A TCP proxy between an instance and Redis that fails as networks do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Bytes that are forwarded at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// How the proxy treats open and new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Forwards everything.
    Pass,
    /// Closes every connection.
    Refuse,
    /// Accepts connections and forwards nothing until the mode changes.
    Freeze,
    /// Forwards everything in both directions with this delay.
    Slow(Duration),
    /// Forwards requests at once, and replies with this delay.
    SlowReplies(Duration),
    /// Forwards this many bytes of the next reply, closes that connection, and then forwards everything.
    CutReply(usize),
    /// Holds back the first request with this command, and what follows on its connection, until the mode changes.
    Hold(&'static str),
}

/// The state that all connections follow.
#[derive(Clone, Copy, Debug)]
struct State {
    mode: Mode,
    upstream: u16,
    /// Cuts so far. A connection older than the last cut is closed.
    cuts: u64,
    /// Silences so far. A connection older than the last silence stays open and loses everything.
    silences: u64,
    /// Whether a request is held back.
    holds: bool,
}

/// A running proxy. Dropping it closes its port and all connections.
pub struct Proxy {
    port: u16,
    state: Arc<watch::Sender<State>>,
    acceptor: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Request,
    Reply,
}

impl Proxy {
    /// Starts a proxy to `upstream` on a free port.
    pub async fn to(upstream: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let state = State {
            mode: Mode::Pass,
            upstream,
            cuts: 0,
            silences: 0,
            holds: false,
        };
        let state = Arc::new(watch::Sender::new(state));
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self {
            port,
            state,
            acceptor,
        }
    }

    /// The value for `REDIS_URL` that leads through the proxy.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Forwards everything again.
    pub fn pass(&self) {
        self.set(Mode::Pass);
    }

    /// Closes all connections, and each new connection at once.
    pub fn refuse(&self) {
        self.set(Mode::Refuse);
    }

    /// Forwards nothing. Bytes that arrive meanwhile are forwarded later.
    pub fn freeze(&self) {
        self.set(Mode::Freeze);
    }

    /// Delays both directions by `delay`.
    pub fn slow(&self, delay: Duration) {
        self.set(Mode::Slow(delay));
    }

    /// Delays replies by `delay`.
    pub fn slow_replies(&self, delay: Duration) {
        self.set(Mode::SlowReplies(delay));
    }

    /// Closes the connection of the next reply after `bytes` bytes of it.
    pub fn cut_reply_after(&self, bytes: usize) {
        self.set(Mode::CutReply(bytes));
    }

    /// Whether a reply was cut after [`Proxy::cut_reply_after`].
    pub fn has_cut(&self) -> bool {
        self.state.borrow().mode == Mode::Pass
    }

    /// Holds back the first request with `command`, and what follows on its connection.
    pub fn hold(&self, command: &'static str) {
        self.set(Mode::Hold(command));
    }

    /// Whether a request is held back after [`Proxy::hold`].
    pub fn holds(&self) -> bool {
        self.state.borrow().holds
    }

    /// Closes all connections that are open now.
    pub fn cut_all(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Loses everything on the connections that are open now, without closing them. New connections work.
    pub fn lose_open_connections(&self) {
        self.state.send_modify(|state| state.silences += 1);
    }

    /// Connects new connections to another port. Open connections stay connected.
    pub fn lead_to(&self, upstream: u16) {
        self.state.send_modify(|state| state.upstream = upstream);
    }

    fn set(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.set(Mode::Refuse);
    }
}

async fn accept(listener: TcpListener, state: Arc<watch::Sender<State>>) {
    while let Ok((client, _)) = listener.accept().await {
        if state.borrow().mode != Mode::Refuse {
            tokio::spawn(carry(client, Arc::clone(&state)));
        }
    }
}

/// Forwards one connection until one of the sides or the proxy closes it.
async fn carry(client: TcpStream, state: Arc<watch::Sender<State>>) {
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, state.borrow().upstream));
    let mut cut = state.subscribe();
    let cuts = state.borrow().cuts;
    let closed = cut.wait_for(|state| state.mode == Mode::Refuse || state.cuts != cuts);
    let carried = async {
        let Ok(server) = TcpStream::connect(upstream).await else {
            return;
        };
        // Nagle's algorithm would add its own delays.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            () = pump(from_client, to_server, Direction::Request, &state) => {}
            () = pump(from_server, to_client, Direction::Reply, &state) => {}
        }
    };
    tokio::select! {
        () = carried => {}
        _ = closed => {}
    }
}

/// Forwards one direction. A queue holds what was read until it is due, so that a delay does not reduce the throughput.
async fn pump(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    direction: Direction,
    state: &watch::Sender<State>,
) {
    let (sender, chunks) = unbounded_channel();
    tokio::select! {
        () = take_in(from, sender, direction, state.subscribe()) => {}
        () = give_out(to, chunks, direction, state) => {}
    }
}

async fn take_in(
    mut from: OwnedReadHalf,
    chunks: UnboundedSender<(Instant, Vec<u8>)>,
    direction: Direction,
    state: watch::Receiver<State>,
) {
    let silences = state.borrow().silences;
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let now = *state.borrow();
        if now.silences != silences {
            continue;
        }
        let delay = match (now.mode, direction) {
            (Mode::Slow(delay), _) | (Mode::SlowReplies(delay), Direction::Reply) => delay,
            _ => Duration::ZERO,
        };
        let due = Instant::now() + delay;
        if chunks.send((due, chunk[..length].to_vec())).is_err() {
            return;
        }
    }
}

async fn give_out(
    mut to: OwnedWriteHalf,
    mut chunks: UnboundedReceiver<(Instant, Vec<u8>)>,
    direction: Direction,
    state: &watch::Sender<State>,
) {
    let mut changes = state.subscribe();
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        let thawed = changes.wait_for(|state| state.mode != Mode::Freeze).await;
        let Ok(mode) = thawed.map(|state| state.mode) else {
            return;
        };
        if let (Mode::Hold(command), Direction::Request) = (mode, direction)
            && begins_with(&chunk, command)
        {
            state.send_modify(|state| state.holds = true);
            let released = changes.wait_for(|state| !matches!(state.mode, Mode::Hold(_)));
            let released = released.await.is_ok();
            state.send_modify(|state| state.holds = false);
            if !released {
                return;
            }
        }
        if let (Mode::CutReply(bytes), Direction::Reply) = (mode, direction) {
            state.send_modify(|state| state.mode = Mode::Pass);
            // The connection ends here, even if this write fails.
            let _ = to.write_all(&chunk[..bytes.min(chunk.len())]).await;
            return;
        }
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

/// Whether `chunk` begins with a request of `command`.
fn begins_with(chunk: &[u8], command: &str) -> bool {
    let name = chunk.split(|byte| *byte == b'\n').nth(2);
    chunk.starts_with(b"*") && name.is_some_and(|name| name.trim_ascii() == command.as_bytes())
}
