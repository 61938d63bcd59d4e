use std::sync::Arc;

use redis::{Cmd, ScriptInvocation, Value};
use tokio::time::Instant;

use super::clock::Clock;
use super::connection::{Channels, Endpoint};
use super::connections::Connections;
use super::grant::Grant;
use super::groups::former::FormerMembers;
use super::keys::Keys;
use super::load_shedder::{CALL_TIMEOUT, LoadShedder};
use super::ping_batcher::PingBatcher;
use super::replies;
use super::scripts::Scripts;
use super::subscription::Subscription;
use crate::config::{Config, InvalidSetting, RedisUrl};
use crate::model::{Announced, Closing, Connected, Disconnected, History, UserState};
use crate::model::{ConnectionId, Position, Timestamp, UserId, millis};
use crate::store::error::StoreError;
use crate::store::lifetimes::Lifetimes;
use crate::store::policy::SHORTEST_OUTAGE;

/// How many due users one step of a count checks.
const COUNT_STEP: usize = 1_000;

/// How many due users a count checks at most. More users are due only for some seconds after a long outage. The count
/// then assumes the same share of offline users among the rest.
const COUNT_MAX: usize = 50 * COUNT_STEP;

/// How a connection is opened or refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Also opens a connection that was closed a moment ago.
    Connect,
    /// Is refused for a connection that was closed a moment ago, because the ping may have been sent before.
    Ping,
}

/// The usual size of the key of a user. Longer keys make a command reallocate.
const USER_KEY_BYTES: usize = 48;

/// A store in Redis 7.0 or newer, or in a compatible server.
#[derive(Clone, Debug)]
pub struct RedisStore {
    pub(super) connections: Arc<Connections>,
    pings: Arc<PingBatcher>,
    pub(super) keys: Keys,
    pub(super) scripts: Arc<Scripts>,
    pub(super) lifetimes: Lifetimes,
    pub(super) clock: Arc<Clock>,
    pub(super) grant: Arc<Grant>,
    pub(super) former_members: Arc<FormerMembers>,
    load_shedder: Arc<LoadShedder>,
}

impl RedisStore {
    /// A store that connects when [`Store::supervise`](crate::store::Store::supervise) is polled. Fails where a setting is
    /// invalid.
    pub fn open(config: &Config, url: &RedisUrl) -> Result<Self, InvalidSetting> {
        let authorities = config.redis.ca_file.as_deref().map(|file| {
            std::fs::read(file).map_err(|error| {
                let why = format!("{}: {error}", file.display());
                InvalidSetting::new("PRESENCE_REDIS_CA_FILE", why)
            })
        });
        let endpoint = Endpoint::new(url, authorities.transpose()?)?;
        let keys = Keys::new(&config.redis.key_prefix);
        let channels = Channels {
            bus: keys.bus.clone(),
            database: endpoint.database(),
            keyspace_events: config.redis.keyspace_events,
        };
        let connections = Arc::new(Connections::new(endpoint, channels));
        let load_shedder = Arc::new(LoadShedder::default());
        let (scripts, grant) = (Arc::new(Scripts::new()), Arc::default());
        let pings = PingBatcher::new(
            &connections,
            &load_shedder,
            &keys,
            &scripts,
            &grant,
            config.presence.ttl,
        );
        Ok(Self {
            pings: Arc::new(pings),
            connections,
            keys,
            scripts,
            grant,
            lifetimes: Lifetimes::of(config),
            clock: Arc::default(),
            former_members: Arc::default(),
            load_shedder,
        })
    }

    /// The same store with a connection of its own. All share one load shedder.
    pub(in crate::store) fn with_own_connection(&self) -> Self {
        let connections = Arc::new(self.connections.with_own_connection());
        Self {
            pings: Arc::new(self.pings.with_connections(&connections)),
            connections,
            ..self.clone()
        }
    }

    /// Runs `call` for at most 1.6 s. Fails at once where too many calls wait.
    pub(in crate::store) async fn with_deadline<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.load_shedder.run(call).await
    }

    pub(in crate::store) async fn supervise(&self) {
        self.connections.supervise().await;
    }

    /// Sends a write command, because a replica and a server without memory accept `PING` but refuse writes. `SETRANGE` of
    /// an empty value neither changes nor creates a key.
    pub(in crate::store) async fn check(&self) -> Result<(), StoreError> {
        let mut setrange = redis::cmd("SETRANGE");
        setrange.arg(&self.keys.epoch).arg(0).arg("");
        self.connections.query(&setrange).await
    }

    pub(in crate::store) async fn subscribe(&self) -> Subscription {
        Subscription::open(&self.connections.subscription, &self.keys).await
    }

    /// Extends only the key of the user if it shows that this is enough: the connection is the unnamed one, the user has
    /// no other, and it has the grant of this instance. Else runs the script for connects and pings.
    pub(in crate::store) async fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Connected, StoreError> {
        let began = Instant::now();
        if connection.is_unnamed() && self.grant.number() != 0 {
            // The reply has no time. A deadline from before the request promises no more than Redis keeps.
            let sent_at = self.now();
            if self.pings.extend(user).await? {
                return Ok(Connected {
                    became_online: false,
                    expires_at: sent_at.plus(self.lifetimes.ttl),
                });
            }
        }
        // Boxed, because few pings need this future and all others would carry its size.
        let call = self.connect_or_ping(user, connection, Call::Ping);
        Box::pin(self.load_shedder.run_until(began + CALL_TIMEOUT, call)).await
    }

    pub(in crate::store) async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Connected, StoreError> {
        self.connect_or_ping(user, connection, Call::Connect).await
    }

    async fn connect_or_ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        kind: Call,
    ) -> Result<Connected, StoreError> {
        let limit = self.lifetimes.user_connections;
        let mut invocation = self.about_connections(&self.scripts.connect);
        invocation
            .key(self.keys.user(user))
            .key(self.keys.connections(user))
            .key(self.keys.closed(user))
            .key(&self.keys.shortened);
        invocation
            .arg(user.as_str())
            .arg(connection.as_str())
            .arg(match kind {
                Call::Connect => "connect",
                Call::Ping => "ping",
            })
            .arg(limit);
        replies::connected(self.connections.script(&invocation).await?, limit)
    }

    pub(in crate::store) async fn disconnect(
        &self,
        user: &UserId,
        closing: &Closing,
    ) -> Result<Disconnected, StoreError> {
        let connection = match closing {
            Closing::One(connection) => connection.as_str(),
            Closing::All => "",
        };
        let mut invocation = self.about_connections(&self.scripts.disconnect);
        invocation
            .key(self.keys.user(user))
            .key(self.keys.connections(user))
            .key(self.keys.closed(user))
            .key(&self.keys.shortened)
            .key(&self.keys.last_seen);
        invocation
            .arg(user.as_str())
            .arg(connection)
            .arg(millis(self.lifetimes.last_seen));
        let (online, became_offline) = self.connections.script(&invocation).await?;
        Ok(Disconnected {
            online,
            became_offline,
        })
    }

    pub(in crate::store) async fn user(&self, user: &UserId) -> Result<UserState, StoreError> {
        let mut read = self.about_connections(&self.scripts.user);
        read.key(self.keys.user(user))
            .key(self.keys.connections(user))
            .key(&self.keys.last_seen);
        read.arg(user.as_str());
        let answer: Vec<Value> = self.connections.script(&read).await?;
        replies::user_state(answer)
    }

    pub(in crate::store) async fn online_among(
        &self,
        users: &[UserId],
    ) -> Result<Vec<bool>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let mut mget = Cmd::with_capacity(1 + users.len(), users.len() * USER_KEY_BYTES);
        mget.arg("MGET");
        for user in users {
            self.keys.add_user(&mut mget, user);
        }
        let values: Vec<Value> = self.connections.query_idempotent(&mget).await?;
        Ok(values.iter().map(|value| *value != Value::Nil).collect())
    }

    /// The number of announced users, without the due users that are offline.
    pub(in crate::store) async fn count(&self) -> Result<u64, StoreError> {
        let (mut checked, mut gone) = (0, 0);
        loop {
            let mut count = self.announcing(&self.scripts.count);
            count.arg(checked).arg(COUNT_STEP);
            let answer: Vec<Value> = self.connections.script(&count).await?;
            let counted = replies::counted(answer)?;
            let online = self.online_among(&counted.to_check).await?;
            gone += online.iter().filter(|online| !**online).count() as u64;
            checked += COUNT_STEP as u64;
            if checked >= counted.due {
                return Ok(counted.announced.saturating_sub(gone));
            }
            if checked >= COUNT_MAX as u64 {
                let gone = u128::from(gone) * u128::from(counted.due) / u128::from(checked);
                let gone = u64::try_from(gone).unwrap_or(u64::MAX);
                return Ok(counted.announced.saturating_sub(gone));
            }
        }
    }

    pub(in crate::store) async fn announced_among(
        &self,
        users: &[UserId],
    ) -> Result<Announced, StoreError> {
        let mut read = self.announcing(&self.scripts.announced);
        for user in users {
            read.arg(user.as_str());
        }
        replies::announced(self.connections.script(&read).await?, users)
    }

    pub(in crate::store) async fn history(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<History, StoreError> {
        let mut read = self.announcing(&self.scripts.history);
        read.arg(after.to_string()).arg(limit);
        replies::history(self.connections.script(&read).await?)
    }

    pub(in crate::store) async fn history_before(
        &self,
        before: Option<Position>,
        limit: usize,
    ) -> Result<History, StoreError> {
        let end = before.map_or("+".to_owned(), |before| format!("({before}"));
        let mut read = self.announcing(&self.scripts.recent);
        read.arg(end).arg(limit);
        replies::history(self.connections.script(&read).await?)
    }

    /// An invocation with the keys and arguments of `announce.lua`, the prelude of all scripts.
    pub(super) fn announcing<'a>(&self, script: &'a redis::Script) -> ScriptInvocation<'a> {
        let mut invocation = script.prepare_invoke();
        invocation
            .key(&self.keys.deadlines)
            .key(&self.keys.events)
            .key(&self.keys.epoch)
            .key(&self.keys.grants)
            .key(&self.keys.held);
        invocation
            .arg(&self.keys.bus)
            .arg(millis(self.lifetimes.history))
            .arg(millis(self.lifetimes.ttl))
            .arg(millis(self.lifetimes.ping_interval));
        invocation
    }

    /// An invocation with the keys and arguments of the preludes `announce.lua` and `connections.lua`.
    pub(super) fn about_connections<'a>(&self, script: &'a redis::Script) -> ScriptInvocation<'a> {
        let mut invocation = self.announcing(script);
        invocation.key(&self.keys.swept).key(&self.keys.outages);
        invocation.arg(millis(SHORTEST_OUTAGE));
        invocation
    }

    /// The clock of Redis as this instance estimates it.
    pub(in crate::store) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
