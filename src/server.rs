//! Assembles the parts of the service, starts them, and drains them.

mod error;
mod handlers;
mod lambda;
mod side;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::error::ServerError;
use self::side::{NextSide, Side};
use crate::auth::Authenticator;
use crate::config::Config;
use crate::events::{Hub, Limits};
use crate::http::Admission;
use crate::memory_budget::MemoryBudget;
use crate::moving::{Mover, Target};
use crate::net::fd_limit;
use crate::net::{Listener, ListenerLimits, Worker, WorkerThreads};
use crate::presence::Answering;
use crate::store::Store;
use crate::telemetry::Metrics;

/// The part of the drain time over which streams are ended. The rest is for sending their last bytes.
const STREAM_DRAIN: f64 = 0.8;

/// Streams take all connections but a sixth, which is reserved for calls and health checks.
const RESERVED_FRACTION: u32 = 6;

/// The connection limit of the metrics listener.
const METRICS_CONNECTIONS: u32 = 64;

/// The memory of the metrics listener, in bytes.
const METRICS_MEMORY: u64 = 64 << 20;

/// The streams that each worker opens at the same time.
const OPENINGS_PER_WORKER: usize = 4;

/// How long a start waits for the store, and how often it checks the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);
const STORE_POLL: Duration = Duration::from_millis(1);

/// The tasks that end in a drain.
const LISTENER: &str = "listener";
const METRICS_LISTENER: &str = "metrics listener";
const WEBHOOKS: &str = "webhooks";
const REGISTRATION: &str = "registration";

/// A presence service that has not started.
#[derive(Debug)]
pub struct Server {
    limits: ListenerLimits,
    admission: Arc<Admission>,
    config: Arc<Config>,
    side: Side,
    /// The side of the next store, during a move.
    next: Option<NextSide>,
    metrics: Arc<Metrics>,
    authenticator: Arc<Authenticator>,
}

/// A presence service that accepts connections.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    hubs: Vec<Arc<Hub>>,
    drain_time: Duration,
    /// Cancelled when the drain begins.
    drain: CancellationToken,
    tasks: JoinSet<&'static str>,
    _threads: WorkerThreads,
}

impl Server {
    /// Assembles the parts. Connects to nothing and starts nothing, but raises the limit of open files.
    pub fn new(mut config: Config) -> Result<Self, ServerError> {
        if config.presence.ping_interval >= config.presence.ttl {
            warn!(
                "PRESENCE_PING_INTERVAL is not below PRESENCE_TTL: users will go offline between two pings"
            );
        }
        let metrics = Arc::new(Metrics::new());
        let memory = MemoryBudget::detect();
        let authenticator = Arc::new(Authenticator::new(&config, memory, Arc::clone(&metrics))?);
        let connections =
            fd_limit::connections(config.limits.connections, WorkerThreads::runtimes())?;
        let connections = memory.connections(connections);
        let max_streams = (connections - connections.div_ceil(RESERVED_FRACTION)).max(1);
        config.limits.streams = config.limits.streams.min(max_streams as usize);
        let store = Arc::new(Store::open(&config)?);
        let next = NextSide::open(&config)?;
        metrics.set_capacity(memory.bytes(), connections, config.limits.streams);
        metrics.set_partitions(store.partitions().count());
        let mut limits = Limits::of(&config, memory);
        if next.is_some() {
            // Two rings share the memory of one.
            limits.history_bytes /= 2;
        }
        let side = Side::new(store, &config, limits, &metrics)?;
        let next = next.map(|store| Side::new(store, &config, limits, &metrics));
        let next = next.transpose()?;
        let next = next.map(|side| NextSide::new(side, &config)).transpose()?;
        Ok(Self {
            limits: ListenerLimits {
                connections,
                keep_alive: config.http.keep_alive,
                memory,
            },
            admission: Arc::new(Admission::new(
                OPENINGS_PER_WORKER * WorkerThreads::workers(),
            )),
            config: Arc::new(config),
            side,
            next,
            metrics,
            authenticator,
        })
    }

    /// The kind of the store, for the log.
    pub fn store_kind(&self) -> &'static str {
        self.side.store.kind()
    }

    /// Binds the addresses and starts to serve.
    pub async fn listen(self) -> Result<Running, ServerError> {
        let (socket, address) = bind(self.config.listen.address())?;
        let metrics_address = self.config.listen.metrics_listen;
        let metrics_socket = metrics_address.map(bind).transpose()?;
        let mut mover = self.mover();
        let mut tasks = self.background();
        let threads = WorkerThreads::start().map_err(ServerError::Workers)?;
        let served = self.served(&threads, &mut tasks);
        let (begun, ()) = join(mover.begin(), self.wait_for_store()).await;
        begun?;
        tasks.spawn(async move {
            mover.run().await;
            "move to another store"
        });
        let drain = CancellationToken::new();
        tasks.spawn(self.deliver(drain.clone()));
        self.register(&mut tasks, drain.clone());
        if let Some((socket, address)) = metrics_socket {
            info!(%address, "serving the metrics");
            let listener = self.metrics_listener(socket, drain.clone());
            tasks.spawn(run(listener, METRICS_LISTENER));
        }
        let workers = threads.workers.iter().cloned().zip(served);
        let workers = workers.map(|(runtime, front)| Worker::new(runtime, front));
        let hubs = self.sides().map(|side| Arc::clone(&side.hub)).collect();
        let listener = Listener::new(
            socket,
            workers.collect(),
            self.limits,
            self.admission,
            self.metrics,
            drain.clone(),
        );
        tasks.spawn(run(listener, LISTENER));
        Ok(Running {
            address,
            hubs,
            drain_time: self.config.listen.drain,
            drain,
            tasks,
            _threads: threads,
        })
    }

    /// The present store and, during a move, the next one.
    fn sides(&self) -> impl Iterator<Item = &Side> {
        let next = self.next.iter().map(|next| &next.side);
        std::iter::once(&self.side).chain(next)
    }

    /// The part of this instance in a move.
    fn mover(&self) -> Mover {
        let former = Arc::clone(&self.side.store);
        let target = self.next.as_ref().map(|next| {
            let NextSide {
                side,
                place,
                progress,
            } = next;
            let store = (&side.store, &side.hub);
            Target::new(place.clone(), store, &self.side.hub, progress)
        });
        Mover::new(&self.config, former, target, Arc::clone(&self.metrics))
    }

    /// Reports about this instance until the drain begins.
    fn register(&self, tasks: &mut JoinSet<&'static str>, drain: CancellationToken) {
        let all: Vec<_> = self
            .sides()
            .map(|side| Arc::clone(&side.registration))
            .collect();
        tasks.spawn(async move {
            join_all(all.iter().map(|each| each.run(&drain))).await;
            REGISTRATION
        });
    }

    /// The listener of `PRESENCE_METRICS_LISTEN`, with limits of its own.
    fn metrics_listener(&self, socket: TcpListener, drain: CancellationToken) -> Listener {
        let front = self.metrics_front();
        let limits = ListenerLimits {
            connections: METRICS_CONNECTIONS,
            memory: MemoryBudget::of(METRICS_MEMORY),
            ..self.limits
        };
        let workers = vec![Worker::new(Handle::current(), front)];
        let (admission, metrics) = (Arc::new(Admission::new(1)), Arc::clone(&self.metrics));
        Listener::new(socket, workers, limits, admission, metrics, drain)
    }

    /// Waits for the store, so that the first calls succeed. The service starts without the store after
    /// [`STORE_TIMEOUT`].
    async fn wait_for_store(&self) {
        let ready = async {
            while self.answering().streams.check_ready().is_err() {
                sleep(STORE_POLL).await;
            }
        };
        if timeout(STORE_TIMEOUT, ready).await.is_err() && !self.answering().streams.is_filling() {
            warn!("the store is unreachable; starting without it");
        }
    }

    /// The side that answers now.
    fn answering(&self) -> &Side {
        match &self.next {
            Some(next) if next.progress.has_moved() => &next.side,
            _ => &self.side,
        }
    }

    /// Starts the background tasks. Each returns its name when it ends.
    fn background(&self) -> JoinSet<&'static str> {
        let mut tasks = JoinSet::new();
        let streams: Vec<_> = self.sides().map(|side| Arc::clone(&side.streams)).collect();
        let authenticator = Arc::clone(&self.authenticator);
        tasks.spawn(async move {
            let end_withdrawn = || streams.iter().for_each(|each| each.end_withdrawn());
            authenticator.refresh_keys(end_withdrawn).await;
            "refresh of the published keys"
        });
        let authenticator = Arc::clone(&self.authenticator);
        tasks.spawn(async move {
            authenticator.evict_idle().await;
            "eviction of idle rate limits"
        });
        let interval = self.config.presence.sweep_interval;
        let (metrics, mut present) = (&self.metrics, Answering::default());
        if let Some(next) = &self.next {
            present = Answering::former(&next.progress);
            let answering = Answering::next(&next.progress);
            next.side.start(&mut tasks, metrics, interval, &answering);
        }
        self.side.start(&mut tasks, metrics, interval, &present);
        tasks
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |cause| ServerError::Listen { address, cause };
    let listener = listen_on(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Like the standard library: a restart can bind the port while old connections are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(Listener::BACKLOG)
}

async fn run(listener: Listener, name: &'static str) -> &'static str {
    listener.run().await;
    name
}

impl Running {
    /// The address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when a background task has ended. No background task ends before the drain.
    pub async fn failed(&mut self) -> ServerError {
        ended(self.tasks.join_next().await)
    }

    /// Drains the service: accepts no more connections, ends the streams spread over the drain time, and waits for
    /// the calls in progress.
    pub async fn shutdown(mut self) {
        self.drain.cancel();
        for hub in &self.hubs {
            hub.drain(self.drain_time.mul_f64(STREAM_DRAIN));
        }
        let finished = async {
            let mut running = vec![LISTENER, WEBHOOKS, REGISTRATION];
            while !running.is_empty()
                && let Some(ended) = self.tasks.join_next().await
            {
                running.retain(|task| !matches!(ended, Ok(ended) if ended == *task));
            }
        };
        if timeout(self.drain_time, finished).await.is_err() {
            warn!("some connections did not end within the drain time");
        }
    }
}

/// The error of a background task that ended.
fn ended(task: Option<Result<&'static str, JoinError>>) -> ServerError {
    match task {
        Some(Ok(task)) => ServerError::TaskEnded(task.to_owned()),
        Some(Err(error)) => ServerError::TaskEnded(format!("task that failed ({error})")),
        None => ServerError::TaskEnded("last task".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(tasks: JoinSet<&'static str>) -> Running {
        Running {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            hubs: Vec::new(),
            drain_time: Duration::ZERO,
            drain: CancellationToken::new(),
            tasks,
            _threads: WorkerThreads::start().expect("enough files"),
        }
    }

    #[tokio::test]
    async fn the_end_of_a_background_task_is_an_error() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async { panic!("by mistake") });
        let failed = running(tasks).failed().await.to_string();
        assert!(failed.contains("task that failed"), "{failed}");
        let mut tasks = JoinSet::new();
        tasks.spawn(async { "sweeper" });
        let failed = running(tasks).failed().await.to_string();
        assert!(failed.contains("the sweeper ended"), "{failed}");
    }
}
