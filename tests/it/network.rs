//! A relay between an instance and its Redis, which the test may turn into a slow network or one that loses everything.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Bytes moved at once.
const BUFFER: usize = 16 * 1024;

pub(crate) struct Network {
    port: u16,
    weather: Arc<Weather>,
    relay: JoinHandle<()>,
}

#[derive(Default)]
struct Weather {
    /// Connections made before this many silences are dead: nobody closes them and nothing passes.
    silences: AtomicUsize,
    /// How long Redis's answers are held back, in ms.
    delay_ms: AtomicU64,
}

impl Network {
    /// A relay to a port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let own_port = listener.local_addr().expect("a bound address").port();
        let weather = Arc::new(Weather::default());
        let relay = tokio::spawn(accept(listener, port, Arc::clone(&weather)));
        Self {
            port: own_port,
            weather,
            relay,
        }
    }

    pub(crate) fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// From now on nothing passes on the connections that are open, and nobody is told; new ones work.
    pub(crate) fn lose_open_connections(&self) {
        self.weather.silences.fetch_add(1, Ordering::SeqCst);
    }

    /// From now on every answer of Redis takes so much longer.
    pub(crate) fn delay_answers(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).expect("a delay of a test");
        self.weather.delay_ms.store(delay_ms, Ordering::SeqCst);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    There,
    Back,
}

async fn accept(listener: TcpListener, port: u16, weather: Arc<Weather>) {
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
            continue;
        };
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::spawn(pass(
            near_in,
            far_out,
            Arc::clone(&weather),
            Direction::There,
        ));
        tokio::spawn(pass(
            far_in,
            near_out,
            Arc::clone(&weather),
            Direction::Back,
        ));
    }
}

/// Takes bytes until one side closes, and lets them fall once there was a silence.
async fn pass(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    weather: Arc<Weather>,
    direction: Direction,
) {
    let (on_the_way, arrivals) = unbounded_channel();
    tokio::spawn(deliver(arrivals, to));
    let made_at = weather.silences.load(Ordering::SeqCst);
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let delay = match direction {
            Direction::There => Duration::ZERO,
            Direction::Back => Duration::from_millis(weather.delay_ms.load(Ordering::SeqCst)),
        };
        let dead = weather.silences.load(Ordering::SeqCst) != made_at;
        let bytes = buffer[..count].to_vec();
        if !dead && on_the_way.send((Instant::now() + delay, bytes)).is_err() {
            return;
        }
    }
}

/// Hands on each piece when it is due, so that a delay holds back every byte and narrows nothing.
async fn deliver(mut arrivals: UnboundedReceiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
    while let Some((due, bytes)) = arrivals.recv().await {
        sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
