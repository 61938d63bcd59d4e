//! The state of all users: the contract of a store, and its two implementations.

mod backoff;
mod beats;
mod deliveries;
mod error;
mod groups;
mod history;
mod instances;
mod lifetimes;
mod members;
mod memory;
mod moving;
mod node_id;
mod policy;
mod quiet;
mod readiness;
mod redis;
mod signal;
mod subscription;
mod swept;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub(crate) use self::backoff::Backoff;
pub use self::error::StoreError;
pub use self::lifetimes::Lifetimes;
pub use self::members::Members;
pub use self::memory::MemoryStore;
pub use self::node_id::NodeId;
pub(crate) use self::policy::{
    BEAT, MOST_INSTANCES, OUTAGE, REPORT_INTERVAL, SWEEP_HEARTBEAT, UNNOTICED,
};
pub(crate) use self::quiet::{Heard, Look};
pub use self::readiness::Readiness;
pub use self::redis::RedisStore;
pub use self::signal::Signal;
pub use self::subscription::Subscription;
pub use self::swept::Swept;
use crate::config::{Config, InvalidSetting};
use crate::model::{
    Announced, Closing, Connected, ConnectionId, Disconnected, MoveRole, Page, PageCursor,
    PartPage, Partition, PartitionSet, Partitions, ScanPlace, State, Stated, Status, Timestamp,
    UserId, UserState,
};

/// The state of all users. Both stores keep this contract:
///
/// 1. A user is *online* exactly while one of its connections has not expired; reads are exact to
///    the millisecond on the store's own clock.
/// 2. A user is *announced* exactly while it is in the deadline index. The entry into the index appends one online
///    event to the history of the user's partition, and the exit appends one offline event, each in the same atomic
///    step.
/// 3. Every online user is announced. The next sweep announces the departure of a user that is announced and no longer
///    online.
/// 4. A ping between the deadline and the sweep keeps the user announced, without an event.
/// 5. A time without sweeps is an outage for a connection if the grant of the connection does not absorb it. A grant
///    absorbs up to three quarters of TTL minus ping interval, but at least 0.5 s and at most 1.5 s. It absorbs more if
///    a client that pings as told still pings in time afterwards. The departure of a user is held once, until each
///    connection that met an outage had one ping interval and a margin, by its grant, to come back. Other outages
///    during the hold prolong it, within a bound. During the hold the user is announced, and reads say that the user is
///    offline.
/// 6. For 10 s after a connection was closed, its pings are refused.
/// 7. A connection that is closed with a grace period lives until the period or its TTL ends, and its pings are refused
///    at once. A connect before the end cancels that. The end is not held.
/// 8. A user is *announced as away* while every connection that is alive or held is away. Each change of this, and of
///    the status, between the entry into the index and the exit appends one event with the whole state. The status of
///    an offline user stays for as long as its last-seen time.
///
/// Any number of callers and instances may call every method at once. A caller may be dropped at any await: the step
/// was taken or it was not.
///
/// The users are divided into partitions. The embedded store has one.
///
/// With Redis, the calls of clients fail after 1.6 s, and fail at once while too many calls wait. Sweeps, the history
/// and subscriptions have no such limit.
#[derive(Debug)]
pub enum Store {
    /// In the memory of this process, and lost with it.
    Memory(Arc<MemoryStore>),
    /// In Redis, shared by all instances with the same key prefix.
    Redis(RedisStore),
}

impl Store {
    /// The store of `config`. This does not wait for Redis: calls fail until Redis is reached. Fails if a setting is
    /// invalid.
    pub fn open(config: &Config) -> Result<Self, InvalidSetting> {
        let is_moving = config.redis.url_next.is_some();
        Self::open_as(
            config,
            if is_moving {
                MoveRole::Former
            } else {
                MoveRole::Only
            },
        )
    }

    fn open_as(config: &Config, role: MoveRole) -> Result<Self, InvalidSetting> {
        let Some(url) = &config.redis.url else {
            if config.redis.ca_file.is_some() {
                let why = "has no effect without REDIS_URL, which is not set";
                return Err(InvalidSetting::new("PRESENCE_REDIS_CA_FILE", why));
            }
            if config.redis.partitions.is_some() {
                let why = "has no effect without REDIS_URL, which is not set";
                return Err(InvalidSetting::new("PRESENCE_PARTITIONS", why));
            }
            let store = MemoryStore::new(Lifetimes::of(config));
            return Ok(Self::Memory(Arc::new(store)));
        };
        let url = url.expose().parse();
        let url = url.map_err(|why: String| InvalidSetting::new("REDIS_URL", why))?;
        Ok(Self::Redis(RedisStore::open(config, &url, role)?))
    }

    /// The same store. With Redis, it has another connection, which has to be supervised too.
    pub fn with_own_connection(&self) -> Self {
        match self {
            Self::Memory(store) => Self::Memory(Arc::clone(store)),
            Self::Redis(store) => Self::Redis(store.with_own_connection()),
        }
    }

    /// The name of this kind of store in logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "embedded store",
            Self::Redis(_) => "redis store",
        }
    }

    /// How the users are divided.
    pub fn partitions(&self) -> Partitions {
        match self {
            Self::Memory(_) => Partitions::ONE,
            Self::Redis(store) => store.partitions(),
        }
    }

    /// The servers that hold the partitions now, and later changes.
    pub fn nodes(&self) -> watch::Receiver<Arc<[NodeId]>> {
        match self {
            Self::Memory(store) => store.nodes(),
            Self::Redis(store) => store.nodes(),
        }
    }

    /// The partitions on `node` now.
    pub fn partitions_on(&self, node: NodeId) -> PartitionSet {
        match self {
            Self::Memory(_) => PartitionSet::all(Partitions::ONE),
            Self::Redis(store) => store.partitions_on(node),
        }
    }

    /// The address of `node` if that is a node of a cluster.
    pub fn address_of(&self, node: NodeId) -> Option<String> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => store.address_of(node),
        }
    }

    /// The time of the clock of a partition. For Redis, this is an estimate.
    pub fn now(&self, partition: Partition) -> Timestamp {
        match self {
            Self::Memory(store) => store.now(),
            Self::Redis(store) => store.now(partition),
        }
    }

    /// Whether the store accepts writes now.
    pub async fn check(&self) -> Readiness {
        match self {
            Self::Memory(_) => Readiness::Ready,
            Self::Redis(store) => store.check().await,
        }
    }

    /// Opens or refreshes a connection. Refused if the user has the maximum number of other connections that do not
    /// leave.
    pub async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<Connected, StoreError> {
        match self {
            Self::Memory(store) => store
                .connect(user, connection, stated)
                .map_err(StoreError::Refused),
            Self::Redis(store) => store.connect(user, connection, stated).await,
        }
    }

    /// Refreshes or opens a connection like [`Store::connect`], and is cheaper if nothing else changes. Also refused
    /// for a connection that leaves, or that was closed in the last 10 s.
    pub async fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<Connected, StoreError> {
        match self {
            Self::Memory(store) => store
                .ping(user, connection, stated)
                .map_err(StoreError::Refused),
            Self::Redis(store) => store.ping(user, connection, stated).await,
        }
    }

    /// Closes connections. A connection that does not exist counts as closed.
    pub async fn disconnect(
        &self,
        user: &UserId,
        closing: &Closing,
    ) -> Result<Disconnected, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.disconnect(user, closing)),
            Self::Redis(store) => store.disconnect(user, closing).await,
        }
    }

    /// The state of a user. An unknown user is offline and has no last-seen time.
    pub async fn user(&self, user: &UserId) -> Result<UserState, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.user(user)),
            Self::Redis(store) => store.user(user).await,
        }
    }

    /// Whether each of `users` is online, in the same order.
    pub async fn online_among(&self, users: &[UserId]) -> Result<Vec<bool>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.online_among(users)),
            Self::Redis(store) => store.online_among(users).await,
        }
    }

    /// The announced state of each of `users`, where something is set, whether the user is online or not.
    pub async fn states_among(
        &self,
        users: &[UserId],
    ) -> Result<Vec<Option<Arc<State>>>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.states_among(users)),
            Self::Redis(store) => store.states_among(users).await,
        }
    }

    /// Sets the status of a user, for a time or for as long as the user is known; `None` clears it. Returns when it
    /// ends.
    pub async fn set_status(
        &self,
        user: &UserId,
        status: Option<&Status>,
        lasts: Option<Duration>,
    ) -> Result<Option<Timestamp>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.set_status(user, status, lasts)),
            Self::Redis(store) => store.set_status(user, status, lasts).await,
        }
    }

    /// The number of online users.
    pub async fn count(&self) -> Result<u64, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.count()),
            Self::Redis(store) => store.count().await,
        }
    }

    /// At most `limit` announced users from `cursor` on.
    ///
    /// A user that stays announced from the first to the last page is on exactly one page. A user that comes or goes
    /// meanwhile may be missing or on several pages.
    pub async fn announced_page(
        &self,
        cursor: &PageCursor,
        limit: usize,
    ) -> Result<Page, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.announced_page(cursor, limit)),
            Self::Redis(store) => store.announced_page(cursor, limit).await,
        }
    }

    /// At most `limit` online users from `cursor` on. A page may have fewer users although more follow.
    pub async fn online_page(&self, cursor: &PageCursor, limit: usize) -> Result<Page, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.online_page(cursor, limit)),
            Self::Redis(store) => store.online_page(cursor, limit).await,
        }
    }

    /// About `limit` announced users of a partition from `place` on.
    ///
    /// A user that stays announced from the first to the last page is on at least one page. A user that comes or goes
    /// meanwhile may be missing.
    pub async fn page_of(
        &self,
        partition: Partition,
        place: &ScanPlace,
        limit: usize,
    ) -> Result<PartPage, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.page_of(place, limit)),
            Self::Redis(store) => store.page_of(partition, place, limit).await,
        }
    }

    /// The announced users among `users`, as of one position in the history of each of their partitions.
    pub async fn announced_among(&self, users: &[UserId]) -> Result<Announced, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.announced_among(users)),
            Self::Redis(store) => store.announced_among(users).await,
        }
    }

    /// Looks at a batch of the users of each partition that are due, and announces the departures among them. Only the
    /// partitions on `node` are swept. Fails if no partition was swept.
    pub async fn sweep(
        &self,
        node: NodeId,
        partitions: PartitionSet,
    ) -> Result<Vec<Swept>, StoreError> {
        match self {
            Self::Memory(store) => Ok(partitions.iter().map(|_| store.sweep()).collect()),
            Self::Redis(store) => store.sweep(node, partitions).await,
        }
    }

    /// When the first held departure can be announced; `None` if none is held.
    pub async fn held_until(&self) -> Result<Option<Timestamp>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.held_until()),
            Self::Redis(store) => store.held_until().await,
        }
    }

    /// Subscribes to the changes by all callers and instances in the partitions on `node`. Waits until the server is
    /// reached.
    pub async fn subscribe(&self, node: NodeId) -> Subscription {
        match self {
            Self::Memory(store) => Subscription::Memory(store.subscribe()),
            Self::Redis(store) => Subscription::Redis(Box::new(store.subscribe(node).await)),
        }
    }

    /// Keeps the connection to the store open, for as long as the future is polled.
    pub async fn supervise(&self) {
        match self {
            Self::Memory(_) => std::future::pending().await,
            Self::Redis(store) => store.supervise().await,
        }
    }
}
