//! A TCP proxy between the service and its Redis, which fails in the ways networks do.

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

/// How much is carried over at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What the proxy does with its connections, those that are open and those to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Carries everything over.
    Pass,
    /// Closes every connection.
    Refuse,
    /// Accepts, and carries nothing over until the mode is another.
    Freeze,
    /// Carries everything over, this much later in each direction.
    Slow(Duration),
    /// Carries everything over, replies this much later.
    SlowReplies(Duration),
    /// Carries so many bytes of the next reply over, closes that connection, and passes from then on.
    CutReply(usize),
    /// Holds requests back from the first that begins with this, on the connection that it comes by,
    /// until the mode is another.
    Hold(&'static str),
}

/// Where connections lead, and in what manner.
#[derive(Clone, Copy, Debug)]
struct State {
    mode: Mode,
    upstream: u16,
    /// Connections made before the last cut are closed.
    cuts: u64,
    /// Connections made before the last silence stay open, and what is sent on them is lost.
    silences: u64,
    /// Whether a request is held back.
    holds: bool,
}

/// A running proxy. Dropping it closes its port and every connection.
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
    /// A proxy to this port, on a free one.
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

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Works again as it should.
    pub fn pass(&self) {
        self.set(Mode::Pass);
    }

    /// Closes every connection, and each new one as soon as it is made.
    pub fn refuse(&self) {
        self.set(Mode::Refuse);
    }

    /// Accepts and says nothing; what is sent meanwhile arrives later.
    pub fn freeze(&self) {
        self.set(Mode::Freeze);
    }

    /// Delays each direction by this much.
    pub fn slow(&self, delay: Duration) {
        self.set(Mode::Slow(delay));
    }

    /// Delays replies by this much, and requests not at all.
    pub fn slow_replies(&self, delay: Duration) {
        self.set(Mode::SlowReplies(delay));
    }

    /// Closes the connection of the next reply after so many bytes of it.
    pub fn cut_reply_after(&self, bytes: usize) {
        self.set(Mode::CutReply(bytes));
    }

    /// Whether a reply was cut since [`Proxy::cut_reply_after`].
    pub fn has_cut(&self) -> bool {
        self.state.borrow().mode == Mode::Pass
    }

    /// Holds back the first request that begins with this command, and what follows on its connection.
    pub fn hold(&self, command: &'static str) {
        self.set(Mode::Hold(command));
    }

    /// Whether a request is held back since [`Proxy::hold`].
    pub fn holds(&self) -> bool {
        self.state.borrow().holds
    }

    /// Closes every connection that is open now.
    pub fn cut_all(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// From now on nothing passes on the connections that are open, and nobody is told; new ones work.
    pub fn lose_open_connections(&self) {
        self.state.send_modify(|state| state.silences += 1);
    }

    /// Lets new connections lead to another port; those that are open stay where they are.
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

/// Carries one connection over until either side or the proxy closes it.
async fn carry(client: TcpStream, state: Arc<watch::Sender<State>>) {
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, state.borrow().upstream));
    let mut cut = state.subscribe();
    let cuts = state.borrow().cuts;
    let closed = cut.wait_for(|state| state.mode == Mode::Refuse || state.cuts != cuts);
    let carried = async {
        let Ok(server) = TcpStream::connect(upstream).await else {
            return;
        };
        // Nagle's algorithm would add delays of its own.
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

/// Carries one direction over. What is read waits for its turn in a queue, so that a delay moves
/// everything by as much and slows nothing down.
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
            // The connection ends here, whether or not this part of the reply gets through.
            let _ = to.write_all(&chunk[..bytes.min(chunk.len())]).await;
            return;
        }
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

/// Whether this is the beginning of a request, and the request that of a command with this name.
fn begins_with(chunk: &[u8], command: &str) -> bool {
    let name = chunk.split(|byte| *byte == b'\n').nth(2);
    chunk.starts_with(b"*") && name.is_some_and(|name| name.trim_ascii() == command.as_bytes())
}
