use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::auth::Authenticator;
use crate::config::{Config, InvalidSetting};
use crate::events::{Bus, Doorbell, Hub, Limits, StreamService};
use crate::http::{Admission, AppState, BulkCalls, fronts, metrics_front};
use crate::memory_budget::MemoryBudget;
use crate::net::fd_limit::{self, TooFewFiles};
use crate::net::{Listener, ListenerLimits, Worker, WorkerThreads};
use crate::presence::PresenceService;
use crate::store::Store;
use crate::sweeper::Sweeper;
use crate::telemetry::Metrics;

/// The part of the drain time over which streams are ended; the rest is for them to be flushed.
const STREAM_DRAIN: f64 = 0.8;

/// A sixth of the connections is left to calls, health checks among them, when streams take the rest.
const CALLS_PART: u32 = 6;

/// Connections of the listener of the metrics: some scrapers, and whoever looks by hand.
const METRICS_CONNECTIONS: u32 = 64;

/// What the connections of that listener may take: little beside what the others have.
const METRICS_MEMORY: u64 = 64 << 20;

/// Streams that are opened at once, for each worker.
const OPENINGS_PER_WORKER: usize = 4;

/// Connections that may wait to be accepted, as far as the system allows (`net.core.somaxconn`):
/// when a thousand and more streams reconnect at once, a client beyond it tries again a second later.
const BACKLOG: u32 = 8_192;

/// How long a start waits for the store, and how often it looks.
const START_PATIENCE: Duration = Duration::from_secs(1);
const START_POLL: Duration = Duration::from_millis(1);

/// A presence service that does not run yet.
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

/// Why a service did not start, or ended by itself.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The system gives no files for the threads that serve connections.
    #[error("cannot start the threads that serve connections: {0}")]
    Workers(io::Error),
    /// The system lets this process open too few files.
    #[error("cannot start: {0}")]
    OpenFiles(#[from] TooFewFiles),
    /// A setting makes no sense.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// Nobody could be told that the service runs.
    #[error("cannot write to the standard output: {0}")]
    Output(io::Error),
    /// A background task ended, which none ever should.
    #[error("the {0} ended; the service cannot go on without it")]
    TaskEnded(String),
}

impl Server {
    /// Puts the parts together. Nothing is connected and nothing runs yet.
    pub fn new(mut config: Config) -> Result<Self, ServerError> {
        if config.presence.ping_interval >= config.presence.ttl {
            warn!("PRESENCE_PING_INTERVAL is not below PRESENCE_TTL: clients who obey will flap");
        }
        let metrics = Arc::new(Metrics::new());
        let memory = MemoryBudget::detect();
        let authenticator = Arc::new(Authenticator::new(&config, memory, Arc::clone(&metrics))?);
        let store = Arc::new(Store::open(&config)?);
        let limits = Limits::of(&config, memory);
        let hub = Arc::new(Hub::new(Arc::clone(&metrics), limits));
        let connections =
            fd_limit::connections(config.limits.connections, WorkerThreads::runtimes())?;
        let connections = memory.connections(connections);
        let beside_calls = (connections - connections.div_ceil(CALLS_PART)).max(1);
        config.limits.streams = config.limits.streams.min(beside_calls as usize);
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
        })
    }

    /// What holds the state, in words.
    pub fn store_kind(&self) -> &'static str {
        self.store.kind()
    }

    /// Binds the addresses and begins to serve.
    pub async fn listen(self) -> Result<Running, ServerError> {
        let (socket, address) = bind(self.config.listen.address())?;
        let metrics_listener = match self.config.listen.metrics_listen {
            Some(address) => Some(bind(address)?),
            None => None,
        };
        let mut tasks = self.background();
        let threads = WorkerThreads::start().map_err(ServerError::Workers)?;
        let mut served_on = |runtime: &Handle| {
            let store = Arc::new(self.store.with_own_connection());
            tasks.spawn_on(supervise(Arc::clone(&store)), runtime);
            self.presence(store)
        };
        let presences: Vec<_> = threads.workers.iter().map(&mut served_on).collect();
        let bulk_state = self.state(served_on(&threads.batch));
        let bulk = BulkCalls::new(threads.batch.clone(), bulk_state);
        self.wait_for_the_store().await;
        let drain = CancellationToken::new();
        if let Some((socket, address)) = metrics_listener {
            info!(%address, "serving the metrics");
            let presence = self.presence(Arc::clone(&self.store));
            let front = metrics_front(self.state(presence));
            let listener = Listener::new(
                socket,
                vec![Worker::new(Handle::current(), front)],
                ListenerLimits {
                    connections: METRICS_CONNECTIONS,
                    memory: MemoryBudget::of(METRICS_MEMORY),
                    ..self.limits
                },
                Arc::new(Admission::new(1)),
                Arc::clone(&self.metrics),
                drain.clone(),
            );
            tasks.spawn(listen(listener, METRICS_LISTENER));
        }
        let states = presences.into_iter().map(|presence| self.state(presence));
        let fronts = fronts(&self.config, &bulk, states);
        let workers = threads.workers.iter().cloned().zip(fronts);
        let listener = Listener::new(
            socket,
            workers
                .map(|(runtime, front)| Worker::new(runtime, front))
                .collect(),
            self.limits,
            self.admission,
            self.metrics,
            drain.clone(),
        );
        tasks.spawn(listen(listener, LISTENER));
        Ok(Running {
            address,
            hub: self.hub,
            drain_time: self.config.listen.drain,
            drain,
            tasks,
            _threads: threads,
        })
    }

    /// The calls, by `store`.
    fn presence(&self, store: Arc<Store>) -> Arc<PresenceService> {
        Arc::new(PresenceService::new(store, Arc::clone(&self.metrics)))
    }

    /// What handlers use, who do calls about one user by `presence`.
    fn state(&self, presence: Arc<PresenceService>) -> AppState {
        AppState {
            presence,
            streams: Arc::clone(&self.streams),
            admission: Arc::clone(&self.admission),
            metrics: Arc::clone(&self.metrics),
            config: Arc::clone(&self.config),
            authenticator: Arc::clone(&self.authenticator),
        }
    }

    /// Gives the store a moment to be reached, so that the first calls find it; a store that is
    /// away for longer does not keep the service from starting.
    async fn wait_for_the_store(&self) {
        let ready = async {
            while self.streams.check_ready().is_err() {
                sleep(START_POLL).await;
            }
        };
        if timeout(START_PATIENCE, ready).await.is_err() && !self.streams.is_filling() {
            warn!("starting although the store is out of reach");
        }
    }

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
        let (keys, limits) = (
            Arc::clone(&self.authenticator),
            Arc::clone(&self.authenticator),
        );
        let streams = Arc::clone(&self.streams);
        tasks.spawn(async move {
            keys.refresh_keys(|| streams.end_withdrawn()).await;
            "refresh of the published keys"
        });
        tasks.spawn(async move {
            limits.evict_idle().await;
            "rate limits"
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
    "link to the store"
}

/// The names of the tasks that end when they are told to.
const LISTENER: &str = "listener";
const METRICS_LISTENER: &str = "metrics listener";

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
    // As the standard library does, so that a restart finds its port free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn listen(listener: Listener, name: &'static str) -> &'static str {
    listener.run().await;
    name
}

impl Running {
    /// The address it accepts connections on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when a background task ended, which none ever should.
    pub async fn failed(&mut self) -> ServerError {
        match self.tasks.join_next().await {
            Some(Ok(task)) => ServerError::TaskEnded(task.to_owned()),
            Some(Err(error)) => ServerError::TaskEnded(format!("task that failed ({error})")),
            None => ServerError::TaskEnded("last task".to_owned()),
        }
    }

    /// Stops accepting, ends the streams over the drain time, and waits for the calls in progress.
    pub async fn shutdown(mut self) {
        self.drain.cancel();
        self.hub.drain(self.drain_time.mul_f64(STREAM_DRAIN));
        let finished = async {
            while let Some(ended) = self.tasks.join_next().await {
                if matches!(ended, Ok(LISTENER)) {
                    return;
                }
            }
        };
        if timeout(self.drain_time, finished).await.is_err() {
            warn!("some connections did not end within the drain time");
        }
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

    fn running(tasks: JoinSet<&'static str>) -> Running {
        Running {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            hub: Arc::new(Hub::new(
                Arc::new(Metrics::new()),
                Limits::of(&Config::default(), MemoryBudget::of(1 << 30)),
            )),
            drain_time: Duration::ZERO,
            drain: CancellationToken::new(),
            tasks,
            _threads: WorkerThreads::start().expect("files for them"),
        }
    }

    #[tokio::test]
    async fn no_background_task_ends_in_silence() {
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
