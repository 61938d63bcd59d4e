//! Where presence lives: the contract every store keeps, and the two that keep it.

mod backoff;
mod gate;
mod lifetimes;
mod memory;
mod redis;
mod signal;
mod swept;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub(crate) use self::backoff::Backoff;
use self::gate::Gate;
pub use self::lifetimes::Lifetimes;
pub use self::memory::MemoryStore;
pub use self::redis::RedisStore;
pub use self::signal::Signal;
pub use self::swept::Swept;
use crate::config::{Config, InvalidSetting};
use crate::model::{
    Announced, Closing, ConnectionId, Epoch, History, Left, Page, PageCursor, Position, Refusal,
    Timestamp, Touched, UserId, UserState,
};

/// When no sweep has run for longer than this, that is an outage for every connection, whatever it
/// was granted.
///
/// Every instance sweeps at least every [`SWEEP_HEARTBEAT`], so six missed in a row by all of them
/// are no accident of scheduling.
pub(crate) const OUTAGE: Duration = Duration::from_millis(1_500);

/// No time without a sweep that is shorter than this is an outage, for no connection.
pub(crate) const SHORTEST_OUTAGE: Duration = Duration::from_millis(500);

/// The longest time between two sweeps of one instance, also when nothing is due.
pub(crate) const SWEEP_HEARTBEAT: Duration = Duration::from_millis(250);

/// How many due users one sweep looks at: a step for so many holds Redis for about 3 ms.
pub(crate) const SWEEP_BATCH: usize = 1_000;

/// The state of every user, in one of two places with one contract.
///
/// 1. A user is *online* exactly while one of its connections has not expired; reads are exact to
///    the millisecond on the store's own clock.
/// 2. A user is *announced* exactly while it is in the deadline index. Entering the index appends
///    one online event to the history, leaving it one offline event, in the same atomic step.
/// 3. Online implies announced. Announced but no longer online is repaired by the next sweep.
/// 4. A ping after the deadline but before the sweep keeps the user announced, silently.
/// 5. No sweep for longer than three quarters of TTL minus ping interval, but at least
///    [`SHORTEST_OUTAGE`] and at most [`OUTAGE`], is an outage for a connection that was granted
///    these. The departure of a user whose connections met one that they could not absorb is held
///    once, until each of them had one ping interval and a margin to come back, as it was granted.
///    Where other outages take of that time, it is prolonged, within a bound. Meanwhile the user is announced, and reads say that it is offline.
/// 6. From the closing of a connection until 10 s later its pings are refused.
///
/// Every method may be called by any number of callers and instances at once, and a caller may die
/// at any await: the step was taken or it was not.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few in a process")]
pub enum Store {
    /// In this process, gone with it.
    Memory(Arc<MemoryStore>),
    /// In Redis, shared by every instance that uses the same key prefix.
    Redis(RedisStore),
}

/// Why a store did not answer.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The store cannot be reached, or did not answer in time.
    #[error("the store is out of reach: {0}")]
    Unreachable(String),
    /// Too many calls wait for the store already.
    #[error("too many calls wait for the store")]
    Overloaded,
    /// The store refused, or answered what it never should.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store is well and refuses this call.
    #[error("{0}")]
    Refused(Refusal),
}

impl StoreError {
    /// The store did not answer in time.
    fn too_slow() -> Self {
        Self::Unreachable("it took too long".to_owned())
    }
}

/// A subscription to a store's [`Signal`]s.
#[derive(Debug)]
pub enum Subscription {
    /// To the embedded store.
    Memory(memory::Subscription),
    /// To Redis.
    Redis(Box<redis::Subscription>),
}

impl Subscription {
    /// The next signal, or `None` when the subscription is lost and has to be made again.
    pub async fn next(&mut self) -> Option<Signal> {
        match self {
            Self::Memory(subscription) => subscription.next().await,
            Self::Redis(subscription) => subscription.next().await,
        }
    }
}

impl Store {
    /// The store that `config` names. Redis is not waited for: calls fail until it is reached.
    pub fn open(config: &Config) -> Result<Self, InvalidSetting> {
        let Some(url) = &config.redis.url else {
            if config.redis.ca_file.is_some() {
                let why = "has no effect without REDIS_URL, which is not set";
                return Err(InvalidSetting::new("PRESENCE_REDIS_CA_FILE", why));
            }
            let store = MemoryStore::new(Lifetimes::of(config));
            return Ok(Self::Memory(Arc::new(store)));
        };
        let url = url.expose().parse();
        let url = url.map_err(|why: String| InvalidSetting::new("REDIS_URL", why))?;
        Ok(Self::Redis(RedisStore::open(config, &url)?))
    }

    /// The same store; Redis by another connection, which has to be supervised too.
    pub fn beside(&self) -> Self {
        match self {
            Self::Memory(store) => Self::Memory(Arc::clone(store)),
            Self::Redis(store) => Self::Redis(store.beside()),
        }
    }

    /// The word for this store in logs and at the start.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "embedded store",
            Self::Redis(_) => "redis store",
        }
    }

    /// The store's clock, for Redis as well as this instance knows it.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Memory(store) => store.now(),
            Self::Redis(store) => store.now(),
        }
    }

    /// Runs a caller's `call` to this store in less than two seconds, or fails; fails at once where
    /// too many wait.
    pub async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match self {
            Self::Memory(_) => call.await,
            Self::Redis(store) => store.gate.pass(call).await,
        }
    }

    /// Whether the store would carry out a call that changes something.
    pub async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.check().await,
        }
    }

    /// Opens or refreshes a connection, whether or not it exists. It is refused where the user has
    /// as many other connections as are allowed.
    pub async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Touched, StoreError> {
        match self {
            Self::Memory(store) => store.connect(user, connection).map_err(StoreError::Refused),
            Self::Redis(store) => store.connect(user, connection).await,
        }
    }

    /// Does what [`Store::connect`] does, at the price of one plain command where nothing changes.
    /// It is also refused for a connection that was closed a moment ago.
    /// Bounded as by [`Store::in_time`], with one timer for all who ping at the same time.
    pub async fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Touched, StoreError> {
        match self {
            Self::Memory(store) => store.ping(user, connection).map_err(StoreError::Refused),
            Self::Redis(store) => store.ping(user, connection).await,
        }
    }

    /// Closes connections; a connection that does not exist is closed already.
    pub async fn disconnect(&self, user: &UserId, closing: &Closing) -> Result<Left, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.leave(user, closing)),
            Self::Redis(store) => store.leave(user, closing).await,
        }
    }

    /// One user; an unknown one is offline and was never seen.
    pub async fn user(&self, user: &UserId) -> Result<UserState, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.user(user)),
            Self::Redis(store) => store.user(user).await,
        }
    }

    /// Whether each of `users` is online, in one round trip.
    pub async fn online_among(&self, users: &[UserId]) -> Result<Vec<bool>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.online_among(users)),
            Self::Redis(store) => store.online_among(users).await,
        }
    }

    /// How many users are online.
    pub async fn count(&self) -> Result<u64, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.count()),
            Self::Redis(store) => store.count().await,
        }
    }

    /// At most `limit` announced users from `cursor` on.
    ///
    /// Who stays announced all the while is on exactly one page; who comes or goes meanwhile may
    /// be missed or repeated.
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

    /// Which of `users` are announced, all as of one position.
    pub async fn announced_among(&self, users: &[UserId]) -> Result<Announced, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.announced_among(users)),
            Self::Redis(store) => store.announced_among(users).await,
        }
    }

    /// At most `limit` events after `position`, and the newest position there is.
    pub async fn history(&self, position: Position, limit: usize) -> Result<History, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.history(position, limit)),
            Self::Redis(store) => store.history(position, limit).await,
        }
    }

    /// At most `limit` of the newest events, or of those before a position, newest first; and the
    /// newest position there is.
    pub async fn history_before(
        &self,
        before: Option<Position>,
        limit: usize,
    ) -> Result<History, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.history_before(before, limit)),
            Self::Redis(store) => store.history_before(before, limit).await,
        }
    }

    /// The data set, and the newest position in its history.
    pub async fn newest(&self) -> Result<(Epoch, Position), StoreError> {
        let history = self.history_before(None, 1).await?;
        Ok((history.epoch, history.newest))
    }

    /// Looks again at the users who are due, announces those who are gone, and says when to return.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.sweep()),
            Self::Redis(store) => store.sweep().await,
        }
    }

    /// Begins to hear what other callers and instances change.
    pub async fn subscribe(&self) -> Result<Subscription, StoreError> {
        match self {
            Self::Memory(store) => Ok(Subscription::Memory(store.subscribe())),
            Self::Redis(store) => Ok(Subscription::Redis(Box::new(store.subscribe().await?))),
        }
    }

    /// Keeps the connection to the store alive, for as long as the future is polled.
    pub async fn supervise(&self) {
        match self {
            Self::Memory(_) => std::future::pending().await,
            Self::Redis(store) => store.supervise().await,
        }
    }
}
