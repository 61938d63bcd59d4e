//! Presence in Redis: pings share a short script, and one script does anything that may be a transition.

mod clock;
mod connecting;
mod endpoint;
mod entry;
mod errors;
mod grant;
mod greeting;
mod keys;
mod link;
mod listing;
mod main_connection;
mod own_connection;
mod pings;
mod replies;
mod route;
mod scripts;
mod subscription;
mod sweeping;

use std::sync::Arc;

use redis::{Cmd, ScriptInvocation, Value};
use tokio::time::Instant;

use self::clock::Clock;
use self::grant::Grant;
use self::keys::Keys;
use self::link::Link;
use self::pings::Pings;
use self::route::Route;
use self::scripts::Scripts;
pub(super) use self::subscription::Subscription;
use super::gate::CALL_TIMEOUT;
use super::{Gate, Lifetimes, SHORTEST_OUTAGE, StoreError};
use crate::config::{Config, InvalidSetting, KeyspaceEvents, RedisUrl};
use crate::model::{Announced, Closing, History, Left, Touched, UserState};
use crate::model::{ConnectionId, Position, Timestamp, UserId, millis};

/// How many due users a count looks at in one step.
const COUNT_STEP: usize = 1_000;

/// How many due users a count looks at in all. After a long outage more may be due for a few
/// seconds; of these as many are taken to be gone as of those looked at.
const COUNT_LOOKS: usize = 50 * COUNT_STEP;

/// Whether a connection may come back shortly after it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Opens it again.
    Connect,
    /// Is refused, since it may have been sent before.
    Ping,
}

/// Room for the key of a user whose id has the usual length; a longer one makes a command grow.
const USER_KEY_BYTES: usize = 48;

/// A store in Redis 7.0 or newer, or a compatible server.
#[derive(Clone, Debug)]
pub struct RedisStore {
    link: Arc<Link>,
    pings: Arc<Pings>,
    keys: Keys,
    scripts: Arc<Scripts>,
    lifetimes: Lifetimes,
    keyspace_events: KeyspaceEvents,
    clock: Arc<Clock>,
    grant: Arc<Grant>,
    pub(super) gate: Arc<Gate>,
}

impl RedisStore {
    /// Prepares the store; nothing is connected before [`super::Store::supervise`] is polled.
    pub fn open(config: &Config, url: &RedisUrl) -> Result<Self, InvalidSetting> {
        let authorities = config.redis.ca_file.as_deref().map(|file| {
            std::fs::read(file).map_err(|error| {
                let why = format!("{}: {error}", file.display());
                InvalidSetting::new("PRESENCE_REDIS_CA_FILE", why)
            })
        });
        let link = Arc::new(Link::new(Route::new(url, authorities.transpose()?)?));
        let keys = Keys::new(&config.redis.key_prefix);
        let gate = Arc::new(Gate::default());
        let (scripts, grant) = (Arc::new(Scripts::new()), Arc::default());
        let pings = Pings::new(&link, &gate, &keys, &scripts, &grant, config.presence.ttl);
        Ok(Self {
            pings: Arc::new(pings),
            link,
            keys,
            scripts,
            grant,
            lifetimes: Lifetimes::of(config),
            keyspace_events: config.redis.keyspace_events,
            clock: Arc::default(),
            gate,
        })
    }

    /// The same store by a link of its own. Who waits for either counts against the same bound.
    pub(super) fn beside(&self) -> Self {
        let link = Arc::new(self.link.beside());
        Self {
            pings: Arc::new(self.pings.over(&link)),
            link,
            ..self.clone()
        }
    }

    pub(super) async fn supervise(&self) {
        self.link.supervise().await;
    }

    /// Asks for a write, which is refused where `PING` is not: by a replica, or without memory.
    /// `SETRANGE` of nothing changes nothing, and makes no key that is not there.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let mut setrange = redis::cmd("SETRANGE");
        setrange.arg(&self.keys.epoch).arg(0).arg("");
        self.link.query(&setrange).await
    }

    pub(super) async fn subscribe(&self) -> Result<Subscription, StoreError> {
        Subscription::open(&self.link, &self.keys, self.keyspace_events).await
    }

    /// Extends the user's key where that is the whole ping: the connection is the unnamed one, the
    /// user has no other, and it has the grant of this instance. The key says all that.
    pub(super) async fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Touched, StoreError> {
        let began = Instant::now();
        if connection.is_unnamed() && self.grant.number() != 0 {
            // The answer names no time; promise no more than from before it was asked for.
            let asked = self.now();
            if self.pings.extend(user).await? {
                return Ok(Touched {
                    became_online: false,
                    expires_at: asked.plus(self.lifetimes.ttl),
                });
            }
        }
        // In a place of its own, since nearly every ping does without and is not to carry its size.
        let touch = self.touch(user, connection, Call::Ping);
        Box::pin(self.gate.pass_until(began + CALL_TIMEOUT, touch)).await
    }

    pub(super) async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Touched, StoreError> {
        self.touch(user, connection, Call::Connect).await
    }

    async fn touch(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        call: Call,
    ) -> Result<Touched, StoreError> {
        let most = self.lifetimes.user_connections;
        let mut touch = self.about_connections(&self.scripts.touch);
        touch
            .key(self.keys.user(user))
            .key(self.keys.connections(user))
            .key(self.keys.closed(user))
            .key(&self.keys.shortened);
        touch
            .arg(user.as_str())
            .arg(connection.as_str())
            .arg(match call {
                Call::Connect => "connect",
                Call::Ping => "ping",
            })
            .arg(most);
        replies::touched(self.link.script(&touch).await?, most)
    }

    pub(super) async fn leave(&self, user: &UserId, closing: &Closing) -> Result<Left, StoreError> {
        let connection = match closing {
            Closing::One(connection) => connection.as_str(),
            Closing::All => "",
        };
        let mut leave = self.about_connections(&self.scripts.leave);
        leave
            .key(self.keys.user(user))
            .key(self.keys.connections(user))
            .key(self.keys.closed(user))
            .key(&self.keys.shortened)
            .key(&self.keys.last_seen);
        leave
            .arg(user.as_str())
            .arg(connection)
            .arg(millis(self.lifetimes.last_seen));
        let (online, became_offline) = self.link.script(&leave).await?;
        Ok(Left {
            online,
            became_offline,
        })
    }

    pub(super) async fn user(&self, user: &UserId) -> Result<UserState, StoreError> {
        let mut read = self.about_connections(&self.scripts.user);
        read.key(self.keys.user(user))
            .key(self.keys.connections(user))
            .key(&self.keys.last_seen);
        read.arg(user.as_str());
        let answer: Vec<Value> = self.link.script(&read).await?;
        replies::user_state(answer)
    }

    pub(super) async fn online_among(&self, users: &[UserId]) -> Result<Vec<bool>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let mut mget = Cmd::with_capacity(1 + users.len(), users.len() * USER_KEY_BYTES);
        mget.arg("MGET");
        for user in users {
            self.keys.add_user(&mut mget, user);
        }
        let values: Vec<Value> = self.link.query_again(&mget).await?;
        Ok(values.iter().map(|value| *value != Value::Nil).collect())
    }

    /// Counts the index, and looks at those due one by one: after an outage these may be many.
    pub(super) async fn count(&self) -> Result<u64, StoreError> {
        let (mut looked_at, mut gone) = (0, 0);
        loop {
            let mut count = self.announcing(&self.scripts.count);
            count.arg(looked_at).arg(COUNT_STEP);
            let answer: Vec<Value> = self.link.script(&count).await?;
            let counted = replies::counted(answer)?;
            let online = self.online_among(&counted.look_at).await?;
            gone += online.iter().filter(|online| !**online).count() as u64;
            looked_at += COUNT_STEP as u64;
            if looked_at >= counted.due {
                return Ok(counted.announced.saturating_sub(gone));
            }
            if looked_at >= COUNT_LOOKS as u64 {
                let gone = u128::from(gone) * u128::from(counted.due) / u128::from(looked_at);
                let gone = u64::try_from(gone).unwrap_or(u64::MAX);
                return Ok(counted.announced.saturating_sub(gone));
            }
        }
    }

    pub(super) async fn announced_among(&self, users: &[UserId]) -> Result<Announced, StoreError> {
        let mut read = self.announcing(&self.scripts.announced);
        for user in users {
            read.arg(user.as_str());
        }
        replies::announced(self.link.script(&read).await?, users)
    }

    pub(super) async fn history(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<History, StoreError> {
        let mut read = self.announcing(&self.scripts.history);
        read.arg(after.to_string()).arg(limit);
        replies::history(self.link.script(&read).await?)
    }

    pub(super) async fn history_before(
        &self,
        before: Option<Position>,
        limit: usize,
    ) -> Result<History, StoreError> {
        let end = before.map_or("+".to_owned(), |before| format!("({before}"));
        let mut read = self.announcing(&self.scripts.recent);
        read.arg(end).arg(limit);
        replies::history(self.link.script(&read).await?)
    }

    /// An invocation with the keys and arguments that the prelude of every script reads.
    fn announcing<'a>(&self, script: &'a redis::Script) -> ScriptInvocation<'a> {
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

    /// An invocation with what the prelude of the scripts about connections reads as well.
    fn about_connections<'a>(&self, script: &'a redis::Script) -> ScriptInvocation<'a> {
        let mut invocation = self.announcing(script);
        invocation.key(&self.keys.swept).key(&self.keys.outages);
        invocation.arg(millis(SHORTEST_OUTAGE));
        invocation
    }

    /// Redis's clock, as well as this instance knows it.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
