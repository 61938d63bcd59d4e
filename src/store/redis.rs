//! Presence in Redis: one plain command for a ping, one script for anything that may be a transition.

mod clock;
mod connecting;
mod endpoint;
mod entry;
mod errors;
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
use self::keys::Keys;
use self::link::Link;
use self::pings::Pings;
use self::route::Route;
use self::scripts::Scripts;
pub(super) use self::subscription::Subscription;
use super::gate::CALL_TIMEOUT;
use super::{Announced, Closing, Gate, History, Left, Lifetimes, StoreError, Touched, UserState};
use crate::config::{Config, InvalidSetting, KeyspaceEvents, RedisUrl};
use crate::presence::{ConnectionId, Position, Timestamp, UserId, millis};

/// How many due users a count looks at in one step.
const COUNT_STEP: usize = 1_000;

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
    pub(super) gate: Arc<Gate>,
}

impl RedisStore {
    /// Prepares the store; nothing is connected before [`super::Store::supervise`] is polled.
    pub fn open(config: &Config, url: &RedisUrl) -> Result<Self, InvalidSetting> {
        let authorities = config.redis_ca_file.as_deref().map(|file| {
            std::fs::read(file).map_err(|error| {
                let why = format!("{}: {error}", file.display());
                InvalidSetting::new("PRESENCE_REDIS_CA_FILE", why)
            })
        });
        let link = Arc::new(Link::new(Route::new(url, authorities.transpose()?)?));
        let keys = Keys::new(&config.key_prefix);
        let gate = Arc::new(Gate::default());
        let pings = Pings::new(&link, &gate, &keys, config.ttl);
        Ok(Self {
            pings: Arc::new(pings),
            link,
            keys,
            scripts: Arc::new(Scripts::new()),
            lifetimes: Lifetimes::of(config),
            keyspace_events: config.keyspace_events,
            clock: Arc::default(),
            gate,
        })
    }

    /// The same store by a link of its own. Who waits for either counts against the same bound.
    pub(super) fn beside(&self) -> Self {
        let link = Arc::new(self.link.beside());
        let pings = Pings::new(&link, &self.gate, &self.keys, self.lifetimes.ttl);
        Self {
            pings: Arc::new(pings),
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

    /// Extends the user's key where that is the whole ping: the connection is the unnamed one and
    /// the user has no other. Only the unnamed connection may do this, because `GETEX` extends
    /// the key whatever it holds, and a key that holds `*` does not carry anybody's own deadline.
    pub(super) async fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Touched, StoreError> {
        let began = Instant::now();
        if connection.is_unnamed() {
            // The answer names no time; promise no more than from before it was asked for.
            let asked = self.now();
            let holds = self.pings.extend(user).await?;
            if matches!(&holds, Value::BulkString(id) if id == ConnectionId::UNNAMED.as_bytes()) {
                return Ok(Touched {
                    became_online: false,
                    expires_at: asked.plus(self.lifetimes.ttl),
                });
            }
        }
        // In a place of its own, since nearly every ping does without and is not to carry its size.
        let touch = self.touch(user, connection);
        Box::pin(self.gate.pass_until(began + CALL_TIMEOUT, touch)).await
    }

    pub(super) async fn touch(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Touched, StoreError> {
        let mut touch = self.announcing(&self.scripts.touch);
        touch
            .key(self.keys.user(user))
            .key(self.keys.connections(user));
        touch
            .arg(user.as_str())
            .arg(connection.as_str())
            .arg(millis(self.lifetimes.ttl));
        let (entered, deadline): (bool, u64) = self.link.script(&touch).await?;
        Ok(Touched {
            became_online: entered,
            expires_at: Timestamp::from_millis(deadline),
        })
    }

    pub(super) async fn leave(&self, user: &UserId, closing: &Closing) -> Result<Left, StoreError> {
        let connection = match closing {
            Closing::One(connection) => connection.as_str(),
            Closing::All => "",
        };
        let mut leave = self.announcing(&self.scripts.leave);
        leave
            .key(self.keys.user(user))
            .key(self.keys.connections(user))
            .key(self.keys.seen(user))
            .key(&self.keys.shortened);
        leave
            .arg(user.as_str())
            .arg(connection)
            .arg(millis(self.lifetimes.last_seen))
            .arg(millis(self.lifetimes.ttl));
        let (online, became_offline) = self.link.script(&leave).await?;
        Ok(Left {
            online,
            became_offline,
        })
    }

    pub(super) async fn user(&self, user: &UserId) -> Result<UserState, StoreError> {
        let mut read = self.announcing(&self.scripts.user);
        read.key(self.keys.user(user))
            .key(self.keys.connections(user))
            .key(self.keys.seen(user));
        read.arg(user.as_str()).arg(millis(self.lifetimes.ttl));
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
        let mut looked_at = 0;
        let mut gone = 0;
        loop {
            let mut count = self.announcing(&self.scripts.count);
            count.arg(looked_at).arg(COUNT_STEP);
            let answer: Vec<Value> = self.link.script(&count).await?;
            let (announced, due) = replies::counted(answer)?;
            let online = self.online_among(&due).await?;
            gone += online.iter().filter(|online| !**online).count() as u64;
            looked_at += due.len();
            if due.len() < COUNT_STEP {
                return Ok(announced.saturating_sub(gone));
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

    /// An invocation with the keys and arguments that the common prelude reads.
    fn announcing<'a>(&self, script: &'a redis::Script) -> ScriptInvocation<'a> {
        let mut invocation = script.prepare_invoke();
        invocation
            .key(&self.keys.deadlines)
            .key(&self.keys.events)
            .key(&self.keys.epoch);
        invocation
            .arg(&self.keys.bus)
            .arg(millis(self.lifetimes.history));
        invocation
    }

    /// Redis's clock, as well as this instance knows it.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
