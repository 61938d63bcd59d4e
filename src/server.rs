//! Assembles the parts of the service, starts them, and drains them.

mod error;
mod lambda;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::error::ServerError;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::events::{Bus, Doorbell, Hub, Limits, StreamService};
use crate::http::{Admission, AppState, BulkCalls, fronts, metrics_front};
use crate::memory_budget::MemoryBudget;
use crate::net::fd_limit;
use crate::net::{Listener, ListenerLimits, Worker, WorkerThreads};
use crate::presence::PresenceService;
use crate::registration::Registration;
use crate::store::Store;
use crate::sweeper::Sweeper;
use crate::telemetry::Metrics;
use crate::webhooks::Webhooks;

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

/// The connections that may wait for `accept`, as far as the kernel allows (`net.core.somaxconn`). When thousands of
/// streams reconnect at once, a client beyond this limit retries after a second.
const BACKLOG: u32 = 8_192;

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
    store: Arc<Store>,
    hub: Arc<Hub>,
    streams: Arc<StreamService>,
    metrics: Arc<Metrics>,
    authenticator: Arc<Authenticator>,
    webhooks: Arc<Webhooks>,
    registration: Arc<Registration>,
}

/// A presence service that accepts connections.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    hub: Arc<Hub>,
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
        let store = Arc::new(Store::open(&config)?);
        let limits = Limits::of(&config, memory);
        let hub = Hub::new(Arc::clone(&metrics), limits, store.partitions());
        let hub = Arc::new(hub);
        let webhooks = Webhooks::new(&config.webhooks, &store, &hub, &metrics)?;
        let registration = Registration::new(Arc::clone(&store), Arc::clone(&metrics));
        let connections =
            fd_limit::connections(config.limits.connections, WorkerThreads::runtimes())?;
        let connections = memory.connections(connections);
        let max_streams = (connections - connections.div_ceil(RESERVED_FRACTION)).max(1);
        config.limits.streams = config.limits.streams.min(max_streams as usize);
        metrics.set_capacity(memory.bytes(), connections, config.limits.streams);
        metrics.set_partitions(store.partitions().count());
        let streams = StreamService::new(Arc::clone(&store), Arc::clone(&hub), &config, limits);
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
            store,
            hub,
            streams: Arc::new(streams),
            metrics,
            authenticator,
            webhooks: Arc::new(webhooks),
            registration: Arc::new(registration),
        })
    }

    /// The kind of the store, for the log.
    pub fn store_kind(&self) -> &'static str {
        self.store.kind()
    }

    /// Binds the addresses and starts to serve.
    pub async fn listen(self) -> Result<Running, ServerError> {
        let (socket, address) = bind(self.config.listen.address())?;
        let metrics_address = self.config.listen.metrics_listen;
        let metrics_socket = metrics_address.map(bind).transpose()?;
        let mut tasks = self.background();
        let threads = WorkerThreads::start().map_err(ServerError::Workers)?;
        let mut presence_on = |runtime: &Handle| {
            let store = Arc::new(self.store.with_own_connection());
            tasks.spawn_on(supervise(Arc::clone(&store)), runtime);
            self.presence(store)
        };
        let presences: Vec<_> = threads.workers.iter().map(&mut presence_on).collect();
        let bulk_state = self.state(presence_on(&threads.bulk));
        let bulk = BulkCalls::new(threads.bulk.clone(), bulk_state);
        self.wait_for_store().await;
        let drain = CancellationToken::new();
        let (webhooks, draining) = (self.webhooks.clone(), drain.clone());
        tasks.spawn(async move {
            webhooks.run(&draining).await;
            WEBHOOKS
        });
        self.register(&mut tasks, drain.clone());
        if let Some((socket, address)) = metrics_socket {
            info!(%address, "serving the metrics");
            let listener = self.metrics_listener(socket, drain.clone());
            tasks.spawn(run(listener, METRICS_LISTENER));
        }
        let states = presences.into_iter().map(|presence| self.state(presence));
        let fronts = fronts(&self.config, &bulk, states);
        let workers = threads.workers.iter().cloned().zip(fronts);
        let workers = workers.map(|(runtime, front)| Worker::new(runtime, front));
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
            hub: self.hub,
            drain_time: self.config.listen.drain,
            drain,
            tasks,
            _threads: threads,
        })
    }

    /// Reports about this instance until the drain begins.
    fn register(&self, tasks: &mut JoinSet<&'static str>, drain: CancellationToken) {
        let registration = Arc::clone(&self.registration);
        tasks.spawn(async move {
            registration.run(&drain).await;
            REGISTRATION
        });
    }

    /// The listener of `PRESENCE_METRICS_LISTEN`, with limits of its own.
    fn metrics_listener(&self, socket: TcpListener, drain: CancellationToken) -> Listener {
        let presence = self.presence(Arc::clone(&self.store));
        let front = metrics_front(self.state(presence));
        let limits = ListenerLimits {
            connections: METRICS_CONNECTIONS,
            memory: MemoryBudget::of(METRICS_MEMORY),
            ..self.limits
        };
        let workers = vec![Worker::new(Handle::current(), front)];
        let (admission, metrics) = (Arc::new(Admission::new(1)), Arc::clone(&self.metrics));
        Listener::new(socket, workers, limits, admission, metrics, drain)
    }

    /// The service over this store.
    fn presence(&self, store: Arc<Store>) -> Arc<PresenceService> {
        Arc::new(PresenceService::new(store, Arc::clone(&self.metrics)))
    }

    /// The state of the handlers, which use `presence` for calls about one user.
    fn state(&self, presence: Arc<PresenceService>) -> AppState {
        AppState {
            presence,
            streams: Arc::clone(&self.streams),
            webhooks: Arc::clone(&self.webhooks),
            registration: Arc::clone(&self.registration),
            admission: Arc::clone(&self.admission),
            metrics: Arc::clone(&self.metrics),
            config: Arc::clone(&self.config),
            authenticator: Arc::clone(&self.authenticator),
        }
    }

    /// Waits for the store, so that the first calls succeed. The service starts without the store after
    /// [`STORE_TIMEOUT`].
    async fn wait_for_store(&self) {
        let ready = async {
            while self.streams.check_ready().is_err() {
                sleep(STORE_POLL).await;
            }
        };
        if timeout(STORE_TIMEOUT, ready).await.is_err() && !self.streams.is_filling() {
            warn!("the store is unreachable; starting without it");
        }
    }

    /// Starts the background tasks. Each returns its name when it ends.
    fn background(&self) -> JoinSet<&'static str> {
        let doorbell = Arc::new(Doorbell::default());
        let sweeper = Sweeper::new(
            Arc::clone(&self.store),
            Arc::clone(&self.hub),
            Arc::clone(&doorbell),
            Arc::clone(&self.metrics),
            self.config.presence.sweep_interval,
        );
        let bus = Bus::new(
            Arc::clone(&self.store),
            Arc::clone(&self.hub),
            Arc::clone(&self.streams),
            doorbell,
            Arc::clone(&self.metrics),
        );
        let hub = Arc::clone(&self.hub);
        let mut tasks = JoinSet::new();
        let streams = Arc::clone(&self.streams);
        let authenticator = Arc::clone(&self.authenticator);
        tasks.spawn(async move {
            authenticator.refresh_keys(|| streams.end_withdrawn()).await;
            "refresh of the published keys"
        });
        let authenticator = Arc::clone(&self.authenticator);
        tasks.spawn(async move {
            authenticator.evict_idle().await;
            "eviction of idle rate limits"
        });
        tasks.spawn(supervise(Arc::clone(&self.store)));
        tasks.spawn(async move {
            sweeper.run().await;
            "sweeper"
        });
        tasks.spawn(async move {
            bus.run().await;
            "bus"
        });
        tasks.spawn(async move {
            tick(&hub).await;
            "keep-alive"
        });
        tasks
    }
}

async fn supervise(store: Arc<Store>) -> &'static str {
    store.supervise().await;
    "connection to the store"
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
    socket.listen(BACKLOG)
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
        self.hub.drain(self.drain_time.mul_f64(STREAM_DRAIN));
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

async fn tick(hub: &Hub) {
    let mut ticks = interval(crate::events::TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        hub.tick();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Partitions;

    fn running(tasks: JoinSet<&'static str>) -> Running {
        Running {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            hub: Arc::new(Hub::new(
                Arc::new(Metrics::new()),
                Limits::of(&Config::default(), MemoryBudget::of(1 << 30)),
                Partitions::ONE,
            )),
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
